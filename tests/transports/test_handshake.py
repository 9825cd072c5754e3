"""The rules of a WebSocket handshake, and that each transport refuses what breaks one with the same sentence."""

import json

import pytest

from service.transports.door import Door
from service.transports.handshake import BadHead, accept_key, asks_to_upgrade, check_bytes, check_handshake

from .asgi_harness import Lines, make_app, serving
from .contract import Options
from .native_harness import NativeHarness
from .raw import Address, RawClient, upgrade
from .script import Counts, ScriptGate

HEADERS = {"sec-websocket-version": "13", "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ=="}


def refused(method: str = "GET", http_version: str = "1.1", **changes: str | None) -> int:
    """The status that refuses a handshake with these changes; 101 where nothing does."""
    headers = {**HEADERS, **{name.replace("_", "-"): value for name, value in changes.items()}}
    try:
        check_handshake(method, http_version, {name: value for name, value in headers.items() if value is not None})
    except BadHead as bad:
        return bad.answer.status
    return 101


def test_the_example_of_the_rfc() -> None:
    assert accept_key("dGhlIHNhbXBsZSBub25jZQ==") == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


def test_the_rules() -> None:
    assert refused() == 101
    assert refused(content_length="0") == 101
    assert refused("POST") == 405
    assert refused(http_version="1.0") == 400
    assert refused(content_length="1") == 400
    assert refused(transfer_encoding="chunked") == 400
    assert refused(sec_websocket_version="8") == 426
    assert refused(sec_websocket_version=None) == 426
    assert refused(sec_websocket_key="dGhl") == 400
    assert refused(sec_websocket_key="\u00e9") == 400
    assert refused(sec_websocket_key=None) == 400
    assert refused("CONNECT", "2", sec_websocket_key=None) == 101


def test_a_wrong_version_is_told_the_right_one() -> None:
    with pytest.raises(BadHead) as caught:
        check_handshake("GET", "1.1", {**HEADERS, "sec-websocket-version": "12"})
    assert ("sec-websocket-version", "13") in caught.value.answer.headers


@pytest.mark.parametrize("data", [b"\x00", b"caf\xe9", b"\x7f", b"\x1b[31m"])
def test_bytes_that_no_head_may_have(data: bytes) -> None:
    check_bytes(b"GET / HTTP/1.1\r\nX: a\tb ~\r\n")
    with pytest.raises(BadHead, match="printable ASCII"):
        check_bytes(data)


def test_who_asks_to_upgrade() -> None:
    assert asks_to_upgrade({"upgrade": "h2c, WebSocket", "connection": "keep-alive, Upgrade"})
    assert not asks_to_upgrade({"upgrade": "websocket", "connection": "close"})
    assert not asks_to_upgrade({"upgrade": "h2c", "connection": "upgrade"})
    assert not asks_to_upgrade({})


WRONG = [
    upgrade(version="8"),
    upgrade(key=""),
    upgrade(key="dGhl"),
    upgrade(extra=b"Content-Length: 5\r\n") + b"hello",
    upgrade(extra=b"Sec-WebSocket-Protocol: caf\xe9\r\n"),
]


async def refusal(address: Address, head: bytes) -> tuple[int, bytes]:
    async with await RawClient.dial(address) as client:
        await client.send(head)
        answer = await client.answer()
        assert answer.headers.get("sec-websocket-version") == ("13" if answer.status == 426 else None)
        return answer.status, await client.rest()


@pytest.mark.parametrize("head", WRONG)
async def test_each_transport_says_the_same(head: bytes) -> None:
    gate, counts, lines = ScriptGate(), Counts(), Lines()
    door = Door(counts=counts, log=lines, linger=0.2)
    app = make_app(gate, counts, lines)
    async with NativeHarness().serve(gate, counts, Options()) as native, serving(app, door) as behind_hypercorn:
        answer = await refusal(native, head)
        assert answer[0] in (400, 426)
        problem = json.loads(answer[1])["error"]
        assert (problem["code"], problem["message"][-1:]) == ("bad_field", ".")
        assert await refusal(behind_hypercorn, head) == answer
    assert counts.handshakes_refused == 2
