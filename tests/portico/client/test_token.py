"""Tokens that end: asked for before the end and after a refusal, and the client stops when there are no more."""

import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio

from portico import Client, Connected, Identity, NoToken, RegistrationRejected, SentAway, TokenFailed
from portico.client import token as tokens
from tests import gateways
from tests.portico.client.fake_gateway import QUICK, Events, Peer, fake_gateway
from tests.tokens.signing import SECRET, token

from .test_client import admit, reject

ANN = Identity(client_id="c1", user_id="ann")


class Source:
    """A program's function: gives these tokens one after another; an exception is raised, at the end there is None."""

    def __init__(self, *given: str | Exception) -> None:
        self.given = list(given)
        self.asked = 0

    def __call__(self) -> str | None:
        self.asked += 1
        if not self.given:
            return None
        found = self.given.pop(0)
        if isinstance(found, Exception):
            raise found
        return found


def later(source: Source) -> Callable[[], Awaitable[str | None]]:
    async def ask() -> str | None:
        await trio.lowlevel.checkpoint()
        return source()

    return ask


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "PAUSE", 0.01)


def client(url: str, **options: Any) -> Client:
    return Client(url=url, **{"identity": ANN, "backoff": QUICK, "on_event": Events(), **options})


@pytest.mark.parametrize("wrap", [lambda source: source, later], ids=["sync", "async"])
async def test_the_next_token_is_shown_before_the_end(wrap: Any) -> None:
    shown: list[str] = []
    done = trio.Event()

    async def script(peer: Peer) -> None:
        asked = await admit(peer, expires_at=time.time() + 0.05)
        shown.append(asked["token"])
        for _ in range(2):
            refresh = await peer.next_of("token_refresh")
            shown.append(refresh["token"])
            await peer.say({"type": "token_refresh", "expires_at": time.time() + 0.05 if len(shown) < 3 else None})
        done.set()
        await peer.forever()

    source = Source("t1", "t2", "t3")
    async with fake_gateway(script) as gateway, client(gateway.url, refresh_token=wrap(source)):
        with trio.fail_after(20):
            await done.wait()
    assert shown == ["t1", "t2", "t3"]
    assert source.asked == 3


@pytest.mark.parametrize("end", ["closed", "rejected"])
async def test_after_a_refusal_the_function_is_asked_once_more(end: str) -> None:
    shown: list[str] = []

    async def script(peer: Peer) -> None:
        if shown or end == "closed":
            shown.append((await admit(peer))["token"])
        else:
            shown.append("old")
            await reject(peer, "unauthorized")
        if len(shown) == 1:
            await peer.close(4001, "the token has expired")
        await peer.forever()

    source = Source("new")
    events = Events()
    async with (
        fake_gateway(script) as gateway,
        client(gateway.url, token="old", refresh_token=source, on_event=events),
    ):
        with trio.fail_after(20):
            while shown[-1:] != ["new"]:  # noqa: ASYNC110 — the fake gateway's script has no event for it
                await trio.sleep(0.01)
    assert (shown, source.asked) == (["old", "new"], 1)


@pytest.mark.parametrize("stop", [(), (NoToken("logged out"),)], ids=["None", "NoToken"])
async def test_the_client_stops_when_there_are_no_more(stop: tuple[Exception, ...]) -> None:
    async def closing(peer: Peer) -> None:
        await admit(peer)
        await peer.close(4001, "the token has expired")

    async def expiring(peer: Peer) -> None:
        await admit(peer, expires_at=time.time() + 0.05)
        await peer.forever()

    for script in (closing, expiring):
        async with fake_gateway(script) as gateway:
            async with client(gateway.url, token="t1", refresh_token=Source(*stop)) as c:
                with trio.fail_after(20), pytest.raises(NoToken):
                    await anext(c)
            with pytest.raises(NoToken):
                async with client(gateway.url, refresh_token=Source(*stop)):
                    pass


async def test_without_a_function_everything_is_as_before() -> None:
    async def closing(peer: Peer) -> None:
        await admit(peer, expires_at=time.time())
        await peer.close(4001, "the token has expired")

    async with fake_gateway(closing) as gateway, client(gateway.url, token="t1") as c:
        with trio.fail_after(20), pytest.raises(SentAway):
            await anext(c)

    async def rejecting(peer: Peer) -> None:
        await reject(peer, "unauthorized")
        await peer.forever()

    async with fake_gateway(rejecting) as gateway:
        with pytest.raises(RegistrationRejected):
            async with client(gateway.url, token="t1"):
                pass


async def test_a_function_that_fails_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "RETRY", 0.01)
    refreshed: list[str] = []
    done = trio.Event()

    async def script(peer: Peer) -> None:
        await admit(peer, expires_at=time.time() + 0.05)
        refreshed.append((await peer.next_of("token_refresh"))["token"])
        await peer.say({"type": "token_refresh", "expires_at": None})
        done.set()
        await peer.forever()

    events = Events()
    source = Source(OSError("the web app is away"), "t1", OSError("away again"), "t2")
    async with fake_gateway(script) as gateway, client(gateway.url, refresh_token=source, on_event=events):
        with trio.fail_after(20):
            await done.wait()
    assert refreshed == ["t2"]
    told = [str(event) for event in events.of(TokenFailed)]
    assert told == ["no new token: the web app is away", "no new token: away again"]


@pytest.mark.live
async def test_against_a_gateway_with_tokens_that_live_for_seconds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("portico.client.client.RETRY", 0.05)
    key = "an-api-key-of-this-test-0123456789"
    settings = {"PORTICO_AUTH": "required", "PORTICO_JWT_SECRET": SECRET, "PORTICO_API_KEYS": key}
    made: list[str] = []

    def next_token() -> str | None:
        if len(made) == 4:
            return None
        made.append(f"j{len(made)}")
        return token(sub="ann", exp=time.time() + (1.5 if len(made) < 3 else 600), jti=made[-1])

    events = Events()
    with gateways.gateway(tmp_path, settings=settings) as running:
        identity = Identity("c1")
        async with (
            httpx.AsyncClient(
                base_url=running.base_url, headers={"authorization": f"Bearer {key}"}, timeout=30
            ) as http,
            Client(
                url=running.websocket_url, identity=identity, refresh_token=next_token, backoff=QUICK, on_event=events
            ) as c,
        ):

            async def take_back(name: str) -> None:
                answer = await http.post("/api/revocations", json={"token_id": name, "ttl": 60})
                assert answer.status_code == 201

            async def pushed() -> bool:
                body = {"target": {"user_id": "ann"}, "type": "hello"}
                return bool((await http.post("/api/notifications", json=body)).json()["queued"])

            with trio.fail_after(60):
                while len(made) < 3:  # noqa: ASYNC110 — as the clock goes
                    await trio.sleep(0.05)
                assert await pushed()
                assert (await anext(c))["type"] == "hello"
                assert len(events.of(Connected)) == 1
                # Whether the gateway has taken it by now, or takes it no more: another is wanted.
                await take_back("j2")
                while len(made) < 4:  # noqa: ASYNC110 — another process
                    await trio.sleep(0.05)
                await take_back("j3")
                with pytest.raises(NoToken):
                    await anext(c)
