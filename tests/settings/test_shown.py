"""The settings as people read them: the rows of `portico check`, and the page of the reference."""

import subprocess
import sys
from pathlib import Path

import pytest

from service.settings import Row, Settings, reference_markdown
from tests.settings.given import NAMES, ROOT, SECRETS, problems, row, write


def test_secrets_are_never_shown() -> None:
    secret = "tell-nobody-4711-words"
    environ = {
        "PORTICO_API_KEYS": secret,
        "WEBSOCKET_HANDSHAKE_KEY": secret,
        "OPEN_API_KEY": secret,
        "REDIS_URL": f"redis://:{secret}@redis",
    }
    settings = Settings.load(environ)
    shown = [str(settings), repr(settings), settings.model_dump_json(), *settings.warnings()]
    assert secret not in " ".join([*shown, *map(repr, settings.describe())])
    for name in SECRETS:
        assert row(settings, name) == Row(name, "******** (set)", "environment")
        assert row(Settings.load({}), name).value == "(not set)"
    broken = {
        "PORTICO_API_KEYS": f"short,{secret} {secret}",
        "WEBSOCKET_HANDSHAKE_KEY": f"{secret}\udcff",
        "OPEN_API_KEY": f"{secret} {secret}",
        "REDIS_URL": f"https://{secret}",
        "PORTICO_PUBLIC_WEBSOCKET_URL": f"http://u:{secret}@x",
        "OPEN_API_BASE_URL": f"https://u:{secret}@x",
    }
    told = problems(broken)
    assert len(told) == len(broken) + 1
    assert secret not in " ".join(told)


@pytest.mark.parametrize(
    ("environ", "name", "value"),
    [
        ({}, "WEBSOCKET_PORT", "8766"),
        ({"WEBSOCKET_PORT": "same"}, "WEBSOCKET_PORT", "same"),
        ({"WORKER_PORT": ""}, "WORKER_PORT", "off"),
        ({"DEBUG": "1"}, "DEBUG", "true"),
        ({}, "PORTICO_PING_INTERVAL", "25"),
        ({"PORTICO_PING_INTERVAL": "10000.01"}, "PORTICO_PING_INTERVAL", "10000.01"),
        ({"PORTICO_TRUSTED_PROXIES": "::1,10.0.0.0/8"}, "PORTICO_TRUSTED_PROXIES", "::1/128,10.0.0.0/8"),
        ({}, "PORTICO_TRUSTED_PROXIES", "(not set)"),
        ({}, "PORTICO_ALLOWED_ORIGINS", "(not set)"),
        (
            {"PORTICO_QUOTAS": "messages/user=50,connections/address=9"},
            "PORTICO_QUOTAS",
            "messages/user=50,connections/address=9",
        ),
        ({"DYNO": "\x1b"}, "DYNO", r"'\x1b'"),
    ],
)
def test_values_are_described_as_one_writes_them(environ: dict[str, str], name: str, value: str) -> None:
    assert row(Settings.load(environ), name).value == value


def test_the_committed_reference_is_what_the_code_says() -> None:
    committed = (ROOT / "docs/reference/settings.md").read_text(encoding="utf-8")
    assert committed == reference_markdown(), "run: python -m service.settings > docs/reference/settings.md"
    for name in NAMES:
        assert committed.count(f"| `{name}` |") == 1


def test_the_generator_depends_on_the_code_alone(tmp_path: Path) -> None:
    write(tmp_path / ".env", "PORTICO_NONSENSE=1\n")
    environ = {"PORT": "no", "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8"}
    command = [sys.executable, "-m", "service.settings"]
    done = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, check=True, timeout=60)
    assert done.stdout.decode() == reference_markdown()
