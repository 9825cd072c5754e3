"""A deployment that doesn't start says so, with its last words, and leaves nothing behind."""

import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from loadtest._capacity import _modes as modes


def _python(program: str) -> modes.Mode:
    return modes.Mode("broken", "a broken one", 1, (modes.Program(("python", "-c", program)),))


def test_a_gateway_that_does_not_start_is_unavailable_with_its_last_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(modes, "_STARTS", 1)
    with (
        pytest.raises(modes.Unavailable, match=r"^a broken one does not start: the port \{x\} is bad$"),
        modes.running(
            _python("import sys; print('first', flush=True); sys.exit('the port {{x}} is bad')"), [], tmp_path
        ),
    ):
        pytest.fail("it is not up")


def test_one_that_says_nothing_and_is_never_ready_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[subprocess.Popen[bytes]] = []
    ended = modes._end

    def end(process: subprocess.Popen[bytes]) -> None:
        started.append(process)
        ended(process)

    monkeypatch.setattr(modes, "_STARTS", 1)
    monkeypatch.setattr(modes, "_UP_SECONDS", 0.5)
    monkeypatch.setattr(modes, "_end", end)
    with (
        pytest.raises(modes.Unavailable, match="it says nothing"),
        modes.running(_python("import time; time.sleep(600)"), [], tmp_path),
    ):
        pytest.fail("it is not up")
    assert [process.returncode for process in started] == [-signal.SIGTERM]


def test_without_redis_the_modes_that_need_one_say_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    [split] = [mode for mode in modes.MODES if mode.name == "split"]
    with pytest.raises(modes.Unavailable, match="no redis-server on this machine"), modes.running(split, [], tmp_path):
        pytest.fail("it is not up")


def test_secrets_are_no_settings_to_show() -> None:
    assert modes._is_secret("PORTICO_API_KEYS")
    assert modes._is_secret("WEBSOCKET_HANDSHAKE_KEY")
    assert not modes._is_secret("PORTICO_MAX_CONNECTIONS")
