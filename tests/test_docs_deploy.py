"""The files to deploy with: what deploy-split.md shows is what is there, and their programs can read them."""

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from honcho.environ import parse_procfile
from ruamel.yaml import YAML

from service.settings import Settings
from service.settings.sources import env_name

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "how-to" / "deploy-split.md").read_text()
SETTINGS = {env_name(name) for name in Settings.model_fields}


def shown(language: str) -> list[str]:
    """The code blocks of a language."""
    found: list[str] = re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    assert found
    return found


def test_the_procfile() -> None:
    (text,) = shown("text")
    assert text == (ROOT / "Procfile.split").read_text()
    entries = parse_procfile(text).processes
    assert list(entries) == ["api", "websocket"]
    for role, command in entries.items():
        assert shlex.split(command)[:4] == [f"SERVICE_ROLE={role}", "hypercorn", "-k", "trio"]


def unit(text: str) -> dict[str, dict[str, str]]:
    """The sections of a unit; a directive occurs once."""
    sections: dict[str, dict[str, str]] = {}
    section: dict[str, str] = {}
    for line in filter(None, text.splitlines()):
        if line.startswith("["):
            section = sections.setdefault(line.strip("[]"), {})
            continue
        name, _, value = line.partition("=")
        assert re.fullmatch(r"[A-Z][A-Za-z]+", name), line
        assert value, line
        assert name not in section, line
        section[name] = value
    return sections


UNITS = ("portico-api.service", "portico-websocket@.service")


def test_the_units() -> None:
    assert [(ROOT / "systemd" / name).read_text() for name in UNITS] == shown("ini")
    roles = dict(zip(UNITS, ("api", "websocket"), strict=True))
    for path in (ROOT / "systemd").iterdir():
        sections = unit(path.read_text())
        assert list(sections) == ["Unit", "Service", "Install"]
        service = sections["Service"]
        variables = dict(part.split("=", 1) for part in service["Environment"].split())
        assert variables.get("SERVICE_ROLE") == roles.get(path.name)
        assert variables.keys() <= SETTINGS
        assert service["ExecStart"].endswith("/portico serve")
        # More than the drain takes, or clients would be killed instead of closed.
        assert int(service["TimeoutStopSec"]) >= 20 + 10


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
def test_systemd_understands_the_units(tmp_path: Path) -> None:
    for unit_file in (ROOT / "systemd").iterdir():
        # The program has to be there; everything else stands as it is.
        path = tmp_path / unit_file.name
        text = unit_file.read_text()
        path.write_text(re.sub(r"^ExecStart=\S+", "ExecStart=/bin/true", text, flags=re.MULTILINE))
        checked = subprocess.run(
            ["systemd-analyze", "verify", "--man=no", str(path)],
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        ours = [line for line in checked.stderr.splitlines() if "portico" in line]
        assert ours == [], checked.stderr


def test_the_dockerfile() -> None:
    lines = [line.partition(" ") for line in (ROOT / "Dockerfile").read_text().splitlines()]
    assert {word for word, _, _ in lines} <= {
        "FROM", "WORKDIR", "COPY", "RUN", "USER", "ENV", "EXPOSE", "STOPSIGNAL", "HEALTHCHECK", "ENTRYPOINT", "CMD",
    }  # fmt: skip
    word, _, base = lines[0]
    assert word == "FROM"
    assert re.fullmatch(r"python:3\.(11|12|13)-\w+-\w+", base), "a base image of a stated version"
    not_ignored = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    for word, _, rest in lines:
        if word == "COPY":
            source, _target = rest.split()
            assert (ROOT / source).exists()
            assert source in not_ignored
        if word == "ENV":
            assert rest.partition("=")[0] in SETTINGS
    said = {word: rest for word, _, rest in lines}
    assert said["USER"] == "portico", "it doesn't run as root"
    # As lists: a shell in between would keep the signals to itself.
    (entry,) = json.loads(said["ENTRYPOINT"])
    assert json.loads(said["CMD"]) == ["serve"]
    _options, _, probe = said["HEALTHCHECK"].partition(" CMD ")
    assert json.loads(probe) == [entry, "healthy"]
    script = ROOT / entry.removeprefix(f"{said['WORKDIR']}/")
    assert script.stat().st_mode & 0o111
    subprocess.run(["/bin/sh", "-n", str(script)], check=True, timeout=60)


COMPOSE = ("compose.yaml", "compose.split.yaml")


def compose(name: str) -> dict[str, Any]:
    """A compose file, with its merges made."""
    loaded: dict[str, Any] = YAML(typ="safe").load(ROOT / name)
    return loaded


def test_the_compose_files_are_of_the_published_schema() -> None:
    program = Path(sys.executable).with_name("check-jsonschema")
    checked = subprocess.run(
        [program, "--builtin-schema", "vendor.compose-spec", *(ROOT / name for name in COMPOSE)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.parametrize("name", COMPOSE)
def test_the_compose_file(name: str) -> None:
    told = compose(name)
    services = told["services"]
    roles = {service: body["environment"].get("SERVICE_ROLE") for service, body in services.items() if "build" in body}
    split = {"api": "api", "websocket-1": "websocket", "websocket-2": "websocket"}
    assert roles == (split if name == "compose.split.yaml" else {"gateway": None})
    for service in services.values():
        assert "build" in service or re.fullmatch(r"\w+:\d+\.\d+(-\w+)?", service["image"]), "of a stated version"
        assert service["restart"] == "unless-stopped"
    for role in roles:
        service = services[role]
        assert service["environment"].keys() <= SETTINGS
        assert service["environment"]["REDIS_URL"] == "redis://redis:6379/0"
        assert int(service["stop_grace_period"].rstrip("s")) >= 20 + 10
    volumes = [volume.partition(":") for service in services.values() for volume in service.get("volumes", ())]
    assert [source for source, _, _ in volumes if not source.startswith("./")] == list(told["volumes"])
    assert all((ROOT / source).is_file() for source, _, _ in volumes if source.startswith("./"))
