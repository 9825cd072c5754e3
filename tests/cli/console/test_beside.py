"""`portico serve --console`: the log and a prompt on one terminal, and how both end."""

import re
import socket
import subprocess
from pathlib import Path
from typing import Final

import pytest

from tests.cli.running import BARE, PORTICO
from tests.cli.terminal import CTRL_D, terminal

SERVE: Final = [*PORTICO, "serve", "--console", "--host", "127.0.0.1", "--port", "0", "--worker-port", "off"]
# One port, and a line of the log for each request.
ENV: Final = {**BARE, "WEBSOCKET_PORT": "same", "PORTICO_ACCESS_LOG": "true", "ENVIRONMENT": "development"}
LOG_LINE: Final = re.compile(r"\d\d:\d\d:\d\d \[\w+ *\] ")

pytestmark = pytest.mark.live


def test_the_log_goes_above_the_prompt_in_whole_lines_and_quitting_ends_both(tmp_path: Path) -> None:
    with terminal(SERVE, cwd=tmp_path, env=ENV, columns=250) as at:
        at.at_prompt("portico>", "half of a li")
        at.expect("portico> half of a li")
        # At a prompt Ctrl-C gives up the line.
        assert "quit, or Ctrl-D, ends it." in at.shown()
        assert "Ctrl-C stops it" not in at.shown()
        found = re.search(r"http://127\.0\.0\.1:(\d+)", at.shown())
        assert found
        # Each request is a line of the log while somebody types.
        status = [*PORTICO, "console", "--base-url", found[0], *["-c", "stats"] * 20]
        assert subprocess.run(status, cwd=tmp_path, env=BARE, capture_output=True, check=False).returncode == 0
        at.expect("/api/c-client/status", count=20)
        at.type("ne")
        at.expect("portico> half of a line")
        at.type("\r")
        at.expect("There is no command 'half'")
        at.at_prompt("portico>", CTRL_D)
        assert at.wait() == 0
        assert at.echoes()
        shown = at.shown()
    logged = [line for line in shown.splitlines() if "/api/c-client/status" in line]
    assert all(LOG_LINE.match(line) for line in logged), shown
    assert "stopped" in shown
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", int(found[1]))) != 0


def test_from_a_pipe_its_lines_are_run_and_the_answers_alone_are_on_standard_output(tmp_path: Path) -> None:
    done = subprocess.run(
        SERVE,
        input="stats --json\nsend nobody ping\n",
        cwd=tmp_path,
        env=ENV,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    assert re.fullmatch(r"\{.*\}\n", done.stdout)
    assert "No client of this id" in done.stderr
    assert "stopped" in done.stderr


def test_a_gateway_that_cannot_start_ends_the_console(tmp_path: Path) -> None:
    with terminal([*SERVE, "--host", "192.0.2.1", "--port", "1"], cwd=tmp_path, env=ENV) as at:
        assert at.wait() == 2
        assert "no address of this machine" in at.shown()
        assert at.echoes()


def test_a_node_without_the_api_has_no_console(tmp_path: Path) -> None:
    env = ENV | {"API_TYPE": "websocket", "REDIS_URL": "redis://127.0.0.1:1/0"}
    done = subprocess.run(SERVE, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "needs the HTTP API" in done.stderr
