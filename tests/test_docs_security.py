"""The pages on security: the tests that they name exist, the metrics too, and the settings leave nothing open."""

import re
from pathlib import Path

import pytest

from service.app import Node
from service.http.metrics import metrics_answer
from service.settings import Settings
from tests.certificates import make_certificate
from tests.gateways import ROOT

SECURITY = (ROOT / "docs/discussion/security.md").read_text()
SECURE_IT = (ROOT / "docs/how-to/secure-it.md").read_text()
NAMED = re.compile(r"`((?:test|contract)_\w+\.py)`:\s+(`test_\w+`(?:,\s+`test_\w+`)*)")


def missing(page: str) -> list[str]:
    """The tests that a page names and that nobody has written."""
    written: dict[str, str] = {}
    for file in (ROOT / "tests").rglob("*.py"):
        written[file.name] = written.get(file.name, "") + file.read_text()
    return [
        f"{file}: {test}"
        for file, tests in NAMED.findall(page)
        for test in re.findall(r"`(\w+)`", tests)
        if not re.search(rf"^ *(async )?def {test}\(", written.get(file, ""), re.MULTILINE)
    ]


def test_the_tests_that_it_names_exist() -> None:
    assert missing(SECURITY) == []
    assert len(NAMED.findall(SECURITY)) > 60


def test_a_name_that_nobody_has_written_is_found() -> None:
    assert missing("x `test_tokens.py`: `test_times`, `test_nobody` `test_nowhere.py`: `test_times`") == [
        "test_tokens.py: test_nobody",
        "test_nowhere.py: test_times",
    ]


def test_every_attack_and_point_names_a_test_or_says_why_not() -> None:
    for row in SECURITY.splitlines():
        cells = [cell.strip() for cell in row.strip("|").split("|")]
        if row.startswith("|") and len(cells) == 3 and cells[0] != "---" and "tested by" not in row:
            before = SECURITY[: SECURITY.index(row)]
            if "## The attacks" in before and not NAMED.search(cells[2]):
                assert not cells[2], row
                assert "provider" in cells[1] or "locked with hashes" in cells[1], row


@pytest.fixture
def settings(tmp_path: Path) -> dict[str, str]:
    """The settings of "Secure it", with files that are there and secrets in place of the dots."""
    (block,) = re.findall(r"```sh\n(ENVIRONMENT=production\n.*?)```", SECURE_IT, re.DOTALL)
    values = dict(line.split("=", 1) for line in block.splitlines() if line)
    made = make_certificate(tmp_path)
    values |= {"PORTICO_TLS_CERT": str(made.file), "PORTICO_TLS_KEY": str(made.key)}
    keys = tmp_path / "api-keys"
    keys.write_text("shop publish sha256:" + "a" * 64 + "\n")
    values["PORTICO_API_KEYS_FILE"] = str(keys)
    values["WEBSOCKET_HANDSHAKE_KEY"] = "a-long-handshake-key-of-its-own"
    values["REDIS_URL"] = values["REDIS_URL"].replace("…", "secret")
    return values


def test_its_settings_are_right_and_leave_nothing_open(settings: dict[str, str]) -> None:
    loaded = Settings.load(settings)
    assert loaded.warnings() == []
    assert (loaded.production, loaded.auth) == (True, "required")


def test_the_metrics_that_it_names_exist(tmp_path: Path) -> None:
    made = make_certificate(tmp_path)
    node = Node(Settings.load({name: str(value) for name, value in made.settings.items()}))
    text = metrics_answer(node.parts.counters, node.parts.connections(), node.parts.live()).body.decode()
    named = set(re.findall(r"`(portico_\w+)`", SECURE_IT))
    assert named
    for name in named:
        assert f"# TYPE {name.removesuffix('_total')} " in text or f"# TYPE {name} " in text, name
