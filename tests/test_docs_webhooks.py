"""The receiver of the how-to, as it stands there, gets what the courier's poster signs, and nothing else."""

import json
import re
import textwrap
import threading
from http.server import ThreadingHTTPServer
from typing import Any

import pytest

from service.outgoing.network import anywhere
from service.outgoing.post import Poster
from tests.gateways import ROOT

KEYS = ("a-new-signing-key-of-this-test-012345", "an-old-signing-key-of-this-test-01234")


async def test_the_receiver_of_the_how_to(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    text = (ROOT / "docs" / "how-to" / "webhooks.md").read_text()
    (code,) = re.findall(r"^   ```python\n(.*?)^   ```", text, re.DOTALL | re.MULTILINE)
    monkeypatch.setenv("PORTICO_WEBHOOK_KEYS", ",".join(KEYS))
    module: dict[str, Any] = {"__name__": "receiver"}
    exec(textwrap.dedent(code), module)
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
