"""The receiver of the how-to, as it stands there, gets what the courier's poster signs, and nothing else."""

import json
import re
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from functools import partial
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from service.outgoing.network import anywhere
from service.outgoing.post import Poster
from tests.gateways import ROOT, clean_environment, free_ports

PAGE = (ROOT / "docs" / "how-to" / "webhooks.md").read_text()
(CODE,) = (textwrap.dedent(code) for code in re.findall(r"^   ```python\n(.*?)^   ```", PAGE, re.DOTALL | re.MULTILINE))
KEYS = ("a-new-signing-key-of-this-test-012345", "an-old-signing-key-of-this-test-01234")


async def test_the_receiver_of_the_how_to(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("PORTICO_WEBHOOK_KEYS", ",".join(KEYS))
    module: dict[str, Any] = {"__name__": "receiver"}
    exec(CODE, module)
    quiet = type("Quiet", (module["Receiver"],), {"log_message": lambda *_: None})
    with ThreadingHTTPServer(("127.0.0.1", 0), quiet) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        url = f"http://127.0.0.1:{server.server_address[1]}/"
        event = json.dumps({"id": "1", "event": "user_online", "user_id": "ann"}).encode()

        async def status(*keys: str) -> int:
            poster = Poster(url, anywhere, limit=1000, connections=1, keys=[key.encode() for key in keys], agent="test")
            try:
                return (await poster.post(event, timeout=20)).status
            finally:
                await poster.aclose()

        try:
            assert await status(*KEYS) == 204
            assert await status(KEYS[0]) == 204, "it comes again, and is handled once"
            assert await status("another-key-of-this-test-0123456789012") == 400
            assert await status() == 400
        finally:
            server.shutdown()
            thread.join()
    assert capsys.readouterr().out == "ann is there\n"
    now = 1_732_000_000.0
    signed = f"t={int(now)},v1={'0' * 64}"
    assert not module["verified"](event, signed, now)
    assert not module["verified"](event, "nonsense", now)


def test_it_is_a_program_that_ctrl_c_ends_without_a_traceback(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    assert CODE.count("5000") == 1
    (tmp_path / "receiver.py").write_text(CODE.replace("5000", str(port)))
    with subprocess.Popen(
        [sys.executable, "receiver.py"],
        cwd=tmp_path,
        env=clean_environment(PORTICO_WEBHOOK_KEYS=KEYS[0]),
        stderr=subprocess.PIPE,
        text=True,
        # A program that is started in the background of a script ignores Ctrl-C, and so would this one.
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    ) as program:
        try:
            give_up = time.monotonic() + 60
            while not takes_connections(port):
                assert program.poll() is None, program.communicate()[1]
                assert time.monotonic() < give_up
                time.sleep(0.02)
            program.send_signal(signal.SIGINT)
            assert program.communicate(timeout=60)[1] == ""
            assert program.returncode == 0
        finally:
            program.kill()


def takes_connections(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 10).close()
    except OSError:
        return False
    return True
