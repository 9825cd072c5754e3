"""The environment and the `.env` file: how they are read and merged, and whose names they hold."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pydantic import SecretStr

from service.settings import Settings
from service.settings.sources import env_name
from tests.settings.given import ROOT, attempt, problems, row, write


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("PORTICO_QUEUE_LIMITS", "PORTICO_QUEUE_LIMIT"),
        ("PORTICO_TRUSTED_PROXY", "PORTICO_TRUSTED_PROXIES"),
        ("PORTICO_PORT", "PORT"),
        ("PORTICO_REDIS_URL", "REDIS_URL"),
        ("portico_log_level", "PORTICO_LOG_LEVEL"),
    ],
)
def test_an_unknown_name_gets_the_nearest_known_one(name: str, nearest: str, tmp_path: Path) -> None:
    sentence = "is not a setting of Portico: did you mean"
    secret = "tell-nobody"
    assert problems({name: secret}) == [f"{name} in the environment {sentence} {nearest}?"]
    assert problems({}, write(tmp_path / "env", f"{name}={secret}")) == [f"{name} in .env {sentence} {nearest}?"]


def test_a_name_that_several_are_like_gets_these() -> None:
    (told,) = problems({"PORTICO_REDIS": "r"})
    assert told.endswith("is not a setting of Portico: did you mean REDIS_URL, REDIS_PORT or REDIS_HOST?")


@pytest.mark.parametrize(
    "name", ["PORTICO_NOSUCH", "PORTICO_FOO", "PORTICO_PASSWORD", "PORTICO_", "PORTICO_" + "X" * 5000]
)
def test_a_name_that_none_is_like_gets_no_guess(name: str) -> None:
    (told,) = problems({name: "1"})
    assert told.endswith(
        " in the environment is not a setting of Portico, and none is named like it: `python -m service.settings` "
        "prints what there is."
    )


def test_the_command_that_is_named_there_prints_every_setting() -> None:
    done = subprocess.run([sys.executable, "-m", "service.settings"], capture_output=True, text=True, check=True)
    assert {name for name in map(env_name, Settings.model_fields) if f"`{name}`" not in done.stdout} == set()


def test_what_commands_read_is_no_typo_beside_the_setting_that_it_is_like(tmp_path: Path) -> None:
    (told,) = problems({"PORTICO_API_KEY": "k"})
    assert told.endswith("did you mean PORTICO_API_KEYS?")
    keys = "a-long-random-text"
    assert attempt({"PORTICO_API_KEY": "k", "PORTICO_API_KEYS": keys, "PORTICO_TOKEN": "t"})[1] == []
    assert attempt({"PORTICO_API_KEY": "k"}, write(tmp_path / "env", f"PORTICO_API_KEYS={keys}"))[1] == []
    # The file is the gateway's own.
    (told,) = problems({}, write(tmp_path / "env", f"PORTICO_API_KEYS={keys}\nPORTICO_API_KEY=k"))
    assert "in .env is not a setting" in told


def test_an_unknown_name_is_safe_to_print() -> None:
    (told,) = problems({"PORTICO_\x1b[2J": "1"})
    assert told.startswith(r"'PORTICO_\x1b[2J' in the environment is not a setting")
    (told,) = problems({"PORTICO_" + "X" * 5000: "1"})
    assert len(told) < 200


def test_other_programs_variables_are_their_own_affair() -> None:
    assert Settings.load({"PATH": "/bin", "DATABASE_URL": "x", "PORTICOS": "2", "": "x"}) == Settings.load({})


LINKS = {
    "PORTICO_SERVICE_HOST": "10.0.0.1",
    "PORTICO_SERVICE_PORT": "8000",
    "PORTICO_SERVICE_PORT_HTTP": "8000",
    "PORTICO_PORT": "tcp://10.0.0.1:8000",
    "PORTICO_PORT_8000_TCP": "tcp://10.0.0.1:8000",
    "PORTICO_PORT_8000_TCP_ADDR": "10.0.0.1",
    "PORTICO_WEB_SERVICE_HOST": "10.0.0.2",
    "REDIS_PORT": "tcp://10.0.0.3:6379",
}


def test_what_kubernetes_sets_for_a_service_called_portico_is_ignored_there_only() -> None:
    inside = {"KUBERNETES_SERVICE_HOST": "10.0.0.100"}
    assert Settings.load({**LINKS, **inside}) == Settings.load({})
    assert len(problems(LINKS)) == len(LINKS)
    assert len(problems({**inside, "PORTICO_SERVICE_HOSTS": "x"})) == 1
    assert Settings.load({**inside, "REDIS_HOST": "r", "REDIS_PORT": "7000"}).redis_port == 7000


def test_the_file_is_read_and_the_environment_wins(tmp_path: Path) -> None:
    text = '\ufeff# comment\nexport PORT=5000\nPORTICO_NAME="one"\nPORTICO_LOG_LEVEL=error # why\nHOST=::1\nOTHER=1\n'
    settings = Settings.load({"PORTICO_NAME": "two", "HOST": ""}, write(tmp_path / "env", text))
    assert (settings.port, settings.name, settings.log_level, settings.host) == (5000, "two", "error", "0.0.0.0")
    sources = {name: row(settings, name).source for name in ("PORT", "PORTICO_NAME", "HOST", "WEBSOCKET_PORT")}
    assert sources == {
        "PORT": ".env",
        "PORTICO_NAME": "environment",
        "HOST": "default",
        "WEBSOCKET_PORT": "derived",
    }


def test_nothing_is_filled_in_from_the_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME_OF_TEST", "leak")
    settings = Settings.load({}, write(tmp_path / "env", "WEBSOCKET_HANDSHAKE_KEY=a${HOME_OF_TEST}$b-and-more\n"))
    assert settings.websocket_handshake_key == SecretStr("a${HOME_OF_TEST}$b-and-more")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"PORT=5000\nnot a line\n", "Line 2 of {file} cannot be understood: write NAME=value"),
        (b"PORT='5000\n", "Line 1 of {file} cannot be understood"),
        (b"HOST\n", "Line 1 of {file} gives HOST no value: write HOST=value"),
        (b"HOST=\xff\n", "The file {file} is not UTF-8 text"),
    ],
)
def test_a_file_that_cannot_be_understood(content: bytes, sentence: str, tmp_path: Path) -> None:
    file = Path(os.path.relpath(tmp_path)) / "env"
    file.write_bytes(content)
    shown = sentence.partition("{file}")
    (told,) = problems({}, file)
    assert told.startswith(shown[0])
    assert shown[2] in told


def test_a_file_that_is_named_must_be_there(tmp_path: Path) -> None:
    (told,) = problems({}, tmp_path / "x")
    assert told.startswith("The file ")
    assert "cannot be read (No such file or directory)" in told
    assert len(problems({}, tmp_path)) == 1
    assert len(problems({}, Path("\0"))) == 1


def test_without_a_mapping_the_process_and_its_directory_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "environ", {"PORTICO_NAME": "real"})
    assert Settings.load().name == "real"
    write(tmp_path / ".env", "HOST=::1\n")
    assert (Settings.load().name, Settings.load().host) == ("real", "::1")
    other = write(tmp_path / "other", "HOST=::2\n")
    assert Settings.load(dotenv=other).host == "::2"
    untouched = Settings.load({})
    assert (untouched.name == "real", untouched.host) == (False, "0.0.0.0")


def test_a_directory_called_dotenv_is_somebodys_virtual_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "environ", {})
    (tmp_path / ".env").mkdir()
    assert Settings.load().port == 8000


@hypothesis_settings(deadline=None)
@given(st.binary(max_size=200))
def test_whatever_a_file_holds_only_sentences_come_out(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    file = tmp_path_factory.getbasetemp() / "fuzzed"
    file.write_bytes(data)
    assert all(problem.isprintable() for problem in attempt({}, file)[1])


def test_the_environment_is_read_here_and_nowhere_else() -> None:
    readers = {
        str(file.relative_to(ROOT))
        for file in (ROOT / "service").rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if (isinstance(node, ast.Attribute) and node.attr in ("environ", "environb", "getenv"))
        or (
            isinstance(node, ast.ImportFrom)
            and node.module == "os"
            and {"environ", "getenv"} & {a.name for a in node.names}
        )
    }
    # The supervisor reads nothing of it: it hands all of it on to its children.
    # A console asks it where a person's history is kept, and `portico token` for a secret that is no setting's here.
    # Commands ask it where the gateway is (GATEWAY_URL), as programs with the SDK do; that is no setting of a gateway.
    assert readers == {
        "service/settings/sources.py",
        "service/supervision/child.py",
        "service/cli/addressing.py",
        "service/cli/console/terminal.py",
        "service/cli/token.py",
    }
