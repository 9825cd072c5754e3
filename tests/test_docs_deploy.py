"""The files in deploy-split.md: the Procfile is the one that is there, and the rest is what its programs can read."""

import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
from honcho.environ import parse_procfile

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


def test_the_units() -> None:
    api, websocket = map(unit, shown("ini"))
    for sections, role in ((api, "api"), (websocket, "websocket")):
        assert list(sections) == ["Unit", "Service", "Install"]
        service = sections["Service"]
        variables = dict(part.split("=", 1) for part in service["Environment"].split())
        assert variables["SERVICE_ROLE"] == role
        assert variables.keys() <= SETTINGS
        assert service["ExecStart"].endswith("/portico serve")
        # More than the drain takes, or clients would be killed instead of closed.
        assert int(service["TimeoutStopSec"]) >= 20 + 10


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
def test_systemd_understands_the_units(tmp_path: Path) -> None:
    for name, text in zip(("portico-api.service", "portico-websocket@.service"), shown("ini"), strict=True):
        # The program has to be there; everything else stands as it is.
        path = tmp_path / name
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


def test_the_dockerfile_is_the_one_that_is_shown() -> None:
    (text,) = shown("dockerfile")
    assert text == (ROOT / "Dockerfile").read_text()


def test_the_dockerfile() -> None:
    lines = [line.partition(" ") for line in (ROOT / "Dockerfile").read_text().splitlines()]
    assert {word for word, _, _ in lines} <= {
        "FROM", "WORKDIR", "COPY", "RUN", "USER", "ENV", "EXPOSE", "STOPSIGNAL", "CMD",
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
    users = [number for number, (word, _, _) in enumerate(lines) if word == "USER"]
    assert users, "it doesn't run as root"
    assert users[-1] < len(lines) - 1
    word, _, command = lines[-1]
    assert word == "CMD"
    # As a list: a shell in between would keep the signals to itself.
    assert json.loads(command) == ["python", "-m", "service", "serve"]


def block(lines: list[str], indent: int) -> object:
    """What a block of plain YAML holds: mappings, lists and scalars, two spaces a level. No more is used there."""
    if lines[0].lstrip().startswith("- "):
        items = []
        while lines and lines[0].startswith(" " * indent + "- "):
            items.append(lines.pop(0)[indent + 2 :].strip('"'))
        return items
    found: dict[str, object] = {}
    while lines and re.match(rf" {{{indent}}}\S", lines[0]):
        match = re.fullmatch(r" *([A-Za-z_]+):(?: (\S.*))?", lines.pop(0))
        assert match, "a line that is no entry"
        name, value = match.groups()
        assert name not in found, f"{name} is there twice"
        nested = value is None and bool(lines) and lines[0].startswith(" " * (indent + 2))
        found[name] = block(lines, indent + 2) if nested else value and value.strip('"')
    return found


def test_the_compose_file() -> None:
    (text,) = shown("yaml")
    lines = text.splitlines()
    compose = block(lines, 0)
    assert not lines, f"cannot be read from here: {lines[0]}"
    assert isinstance(compose, dict)
    assert list(compose) == ["services", "volumes"]
    services = compose["services"]
    assert list(services) == ["redis", "api", "websocket"]
    assert re.fullmatch(r"redis:\d+\.\d+(-\w+)?", services["redis"]["image"]), "an image of a stated version"
    assert [volume.partition(":")[0] for volume in services["redis"]["volumes"]] == list(compose["volumes"])
    for role in ("api", "websocket"):
        service = services[role]
        assert service["environment"]["SERVICE_ROLE"] == role
        assert service["environment"].keys() <= SETTINGS
        assert service["environment"]["REDIS_URL"] == "redis://redis:6379/0"
        port = service["environment"]["PORT"]
        assert service["ports"] == [f"{port}:{port}"]
        assert service["depends_on"] == ["redis"]
        assert int(service["stop_grace_period"].rstrip("s")) >= 20 + 10
