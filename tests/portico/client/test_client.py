from typing import Any

import pytest
import trio
import trio.testing
from msgspec.structs import replace

from portico.client.backoff import Backoff
from portico.client.client import Client
from portico.client.errors import GaveUp, NotRunning, RegistrationRejected, SentAway, Superseded
from portico.client.events import BadMessage, Complaint, Connected, Lost
from portico.client.link import LinkOptions
from portico.wire.messages import Identity
from tests.portico.client.fake_gateway import QUICK, Events, Peer, fake_gateway, fake_http

ANN = Identity(client_id="c1", user_id="ann", username="Ann")


async def admit(peer: Peer, **more: object) -> dict[str, Any]:
    """Confirm the next registration, and return it."""
    asked = await peer.next_of("c_client_register")
    client_id = asked["client_id"] or "made-up"
    success = {"type": "registration_success", "client_id": client_id, "heartbeat_interval": 25}
    await peer.say(success | more)
    return asked


async def reject(peer: Peer, reason: str) -> None:
    await peer.next_of("c_client_register")
    await peer.say({"type": "registration_rejected", "reason": reason, "message": "no\x1b way"})


def client(url: str, **options: Any) -> Client:
    defaults: dict[str, Any] = {"identity": ANN, "backoff": QUICK, "on_event": Events()}
    return Client(url=url, **(defaults | options))


async def test_it_discovers_registers_and_receives() -> None:
    asked: list[dict[str, Any]] = []
    paths: list[str] = []

    async def script(peer: Peer) -> None:
        paths.append(peer.path)
        asked.append(await admit(peer))
        await peer.say({"type": "auto_login", "session_id": "s1"})
        await peer.say({"type": "logout_notification", "session_id": "s1"})
        await peer.forever()

    async with fake_gateway(script) as gateway:
        url = gateway.url + "/api/websocket"
        async with (
            fake_http(lambda _: (200, {"websocket_url": url})) as base_url,
            Client(base_url, identity=ANN, token="t", on_event=Events()) as c,
        ):
            assert c.registration["client_id"] == "c1"
            assert [(await anext(c))["type"] for _ in range(2)] == ["auto_login", "logout_notification"]
    assert paths == ["/api/websocket"]
    assert asked == [
        {
            "type": "c_client_register",
            "client_id": "c1",
            "user_id": "ann",
            "username": "Ann",
            "node_id": None,
            "domain_id": None,
            "cluster_id": None,
            "channel_id": None,
            "token": "t",
        }
    ]


async def test_it_comes_back_as_the_same_client_even_where_the_gateway_named_it() -> None:
    asked: list[object] = []

    async def script(peer: Peer) -> None:
        asked.append((await admit(peer))["client_id"])
        await peer.say({"type": "push", "n": peer.number})
        if peer.number == 0:
            await peer.close(1012, "retry_within_ms=5")
        await peer.forever()

    events = Events()
    someone = Identity(user_id="ann")
    async with fake_gateway(script) as gateway, client(gateway.url, identity=someone, on_event=events) as c:
        assert [(await anext(c))["n"] for _ in range(2)] == [0, 1]
    assert asked == [None, "made-up"]
    assert len(events.of(Connected)) == 2


async def test_becoming_somebody_else_on_the_same_connection() -> None:
    async def script(peer: Peer) -> None:
        await admit(peer)
        asked = await admit(peer)
        await peer.say({"type": "auto_login", "user_id": asked["user_id"]})
        await peer.forever()

    async with fake_gateway(script) as gateway, client(gateway.url) as c:
        await c.register(replace(ANN, user_id="bob"))
        assert c.identity is not None
        assert c.identity.user_id == "bob"
        assert (await anext(c))["user_id"] == "bob"


async def test_a_rejected_change_keeps_the_old_identity_and_the_connection() -> None:
    asked: list[object] = []

    async def script(peer: Peer) -> None:
        if peer.number == 0:
            await admit(peer)
            await reject(peer, "bad_field")
            await peer.next_of("session_feedback")
            await peer.drop()
        asked.append((await admit(peer))["user_id"])
        await peer.say({"type": "back"})
        await peer.forever()

    async with fake_gateway(script) as gateway, client(gateway.url) as c:
        with pytest.raises(RegistrationRejected) as caught:
            await c.register(Identity(user_id="x" * 300))
        assert caught.value.reason == "bad_field"
        assert str(caught.value).isprintable()
        await c.session_feedback(success=True)
        assert (await anext(c))["type"] == "back"
    assert asked == ["ann"]


async def test_a_change_that_a_lost_connection_interrupts_is_made_on_the_next() -> None:
    asked: list[object] = []

    async def script(peer: Peer) -> None:
        if peer.number == 0:
            await admit(peer)
            await peer.next_of("c_client_register")
            await peer.drop()
        asked.append((await admit(peer))["user_id"])
        await peer.forever()

    async with fake_gateway(script) as gateway, client(gateway.url) as c:
        with trio.fail_after(60):
            await c.register(replace(ANN, user_id="bob"))
    assert asked == ["bob"]


async def test_a_change_that_another_overtook_is_told_so() -> None:
    errors: list[Exception] = []

    async def script(peer: Peer) -> None:
        if peer.number == 0:
            await admit(peer)
            await peer.next_of("c_client_register")
            await peer.next_of("c_client_register")
            await peer.drop()
        await admit(peer)
        await peer.forever()

    async with fake_gateway(script) as gateway, client(gateway.url) as c:

        async def change(user_id: str) -> None:
            try:
                await c.register(replace(ANN, user_id=user_id))
            except Superseded as error:
                errors.append(error)

        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(change, "bob")
                await trio.testing.wait_all_tasks_blocked(0.01)
                nursery.start_soon(change, "cleo")
        assert c.identity is not None
        assert c.identity.user_id == "cleo"
    assert len(errors) == 1


async def test_session_feedback() -> None:
    got: list[dict[str, Any]] = []
    over = trio.Event()

    async def script(peer: Peer) -> None:
        await admit(peer)
        got.extend([await peer.next(), await peer.next()])
        over.set()
        await peer.forever()

    async with fake_gateway(script) as gateway, client(gateway.url) as c:
        await c.session_feedback(success=False, message="no cookie", session_id="s1")
        await c.session_feedback(success=True)
        with trio.fail_after(60):
            await over.wait()
    assert got == [
        {"type": "session_feedback", "success": False, "message": "no cookie", "session_id": "s1"},
        {"type": "session_feedback", "success": True, "message": ""},
    ]


async def test_a_rejection_ends_it_plainly() -> None:
    async def script(peer: Peer) -> None:
        await reject(peer, "bad_field")
        await peer.forever()

    async with fake_gateway(script) as gateway:
        with pytest.raises(RegistrationRejected, match="bad_field"):
            async with client(gateway.url):
                raise AssertionError("never entered")


async def test_a_rejection_of_the_moment_is_tried_again() -> None:
    async def script(peer: Peer) -> None:
        if peer.number == 0:
            await reject(peer, "unavailable")
            await peer.forever()
        await admit(peer)
        await peer.forever()

    async with fake_gateway(script) as gateway, client(gateway.url):
        assert gateway.connections == 2


async def test_its_own_ghost_does_not_keep_it_out() -> None:
    async def script(peer: Peer) -> None:
        if peer.number == 0:
            await admit(peer)
            await peer.drop()
        elif peer.number == 1:
            await reject(peer, "already_connected")
        else:
            await admit(peer)
            await peer.say({"type": "back"})
        await peer.forever()

    async with fake_gateway(script) as gateway, client(gateway.url) as c:
        with trio.fail_after(60):
            assert (await anext(c))["type"] == "back"


async def test_another_that_is_there_already_does() -> None:
    async def script(peer: Peer) -> None:
        await reject(peer, "already_connected")
        await peer.forever()

    async with fake_gateway(script) as gateway:
        with pytest.raises(RegistrationRejected):
            async with client(gateway.url):
                raise AssertionError("never entered")


async def test_pushes_that_came_before_the_end_are_read_before_it_is_raised() -> None:
    async def script(peer: Peer) -> None:
        await admit(peer)
        await peer.say({"type": "push"})
        await peer.close(4010, "kicked")

    got: list[str] = []
    async with fake_gateway(script) as gateway, client(gateway.url) as c:

        async def read() -> None:
            async for push in c:
                got.append(push["type"])  # noqa: PERF401  (what came before the error is wanted)

        with trio.fail_after(60), pytest.raises(SentAway):
            await read()
    assert got == ["push"]


async def test_a_program_that_is_busy_loses_nothing_up_to_the_buffer_and_then_stops_reading() -> None:
    async def script(peer: Peer) -> None:
        await admit(peer)
        for n in range(200):
            await peer.say({"type": "push", "n": n})
        await peer.forever()

    async with fake_gateway(script) as gateway, client(gateway.url, buffer=5) as c:
        await trio.testing.wait_all_tasks_blocked(0.02)
        assert c.buffered == 5
        with trio.fail_after(60):
            assert [(await anext(c))["n"] for _ in range(200)] == list(range(200))


async def test_leaving_while_the_buffer_is_full_is_no_trouble() -> None:
    async def script(peer: Peer) -> None:
        await admit(peer)
        for n in range(50):
            await peer.say({"type": "push", "n": n})
        await peer.forever()

    async with fake_gateway(script) as gateway, client(gateway.url, buffer=1):
        await trio.testing.wait_all_tasks_blocked(0.02)


async def test_nonsense_and_complaints_are_reported_and_survived() -> None:
    async def script(peer: Peer) -> None:
        await peer.raw("{")
        await peer.say({"type": "error", "code": "unknown_type", "message": "what\nis this"})
        await admit(peer, heartbeat_interval="often")
        await peer.say({"type": 5})
        await peer.say({"type": "push"})
        await peer.forever()

    events = Events()
    async with fake_gateway(script) as gateway, client(gateway.url, on_event=events) as c:
        assert [(await anext(c))["type"] for _ in range(2)] == [5, "push"]
    assert len(events.of(BadMessage)) == 1
    assert [str(event) for event in events.of(Complaint)] == ["the gateway says: unknown_type: what\\nis this"]
    assert all(str(event).isprintable() for event in events.seen)


async def test_it_beats_at_the_gateway_s_interval() -> None:
    beats: list[dict[str, Any]] = []
    enough = trio.Event()

    async def script(peer: Peer) -> None:
        await admit(peer, heartbeat_interval=0.01)
        beats.extend([await peer.next(), await peer.next()])
        await peer.say({"type": "heartbeat"})
        enough.set()
        await peer.forever()

    async with fake_gateway(script) as gateway, client(gateway.url):
        with trio.fail_after(60):
            await enough.wait()
    assert beats == [{"type": "heartbeat"}] * 2


async def test_silence_instead_of_an_answer_is_another_failed_attempt() -> None:
    async def script(peer: Peer) -> None:
        await peer.forever()

    events = Events()
    options = LinkOptions(connect_timeout=0.3, close_timeout=0.1)
    backoff = Backoff(first=0.001, longest=0.001, max_attempts=2)
    async with fake_gateway(script) as gateway:
        with pytest.raises(GaveUp):
            async with client(gateway.url, options=options, backoff=backoff, on_event=events):
                raise AssertionError("never entered")
    assert "did not answer the registration" in str(events.of(Lost)[0])


async def test_after_its_block_it_is_closed() -> None:
    async def script(peer: Peer) -> None:
        await admit(peer)
        await peer.forever()

    async with fake_gateway(script) as gateway:
        async with client(gateway.url) as c:
            pass
        with pytest.raises(NotRunning):
            await anext(c)
        with pytest.raises(NotRunning):
            await c.register(ANN)


async def test_it_resumes_where_it_left_off_and_says_what_is_lost() -> None:
    asked: list[Any] = []

    def resume(**more: object) -> dict[str, Any]:
        return {"resume": {"epoch": "e1", "offsets": {"user:ann": 1, "all": 1}, "recovered": True} | more}

    async def script(peer: Peer) -> None:
        if not asked:
            asked.append((await admit(peer, **resume())).get("resume"))
            await peer.say({"type": "e", "stream": "user:ann", "offset": 4})
            return
        asked.append((await admit(peer, **resume(recovered=False, lost=["all"]))).get("resume"))
        await peer.say({"type": "e", "stream": "user:ann", "offset": 4})
        await peer.say({"type": "e", "stream": "user:ann", "offset": 5})
        await peer.forever()

    async with fake_gateway(script) as gateway, client(gateway.url) as c:
        pushes = [await anext(c) for _ in range(3)]
    assert asked == [None, {"epoch": "e1", "offsets": {"user:ann": 4, "all": 1}}]
    assert pushes[0]["offset"] == 4
    assert pushes[1] == {"type": "stream_gap", "streams": ["all"]}
    assert pushes[2]["offset"] == 5
