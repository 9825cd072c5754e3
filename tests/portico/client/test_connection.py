from dataclasses import replace

import pytest
import trio

from portico.client.address import Locate, locate
from portico.client.backoff import Backoff
from portico.client.connection import Connection
from portico.client.errors import ConnectFailed, DiscoveryFailed, GaveUp, HandshakeRefused, SentAway
from portico.client.events import Connecting, Lost, Retrying
from portico.client.link import Link, LinkOptions
from portico.wire.codes import Advice, CloseCode
from tests.portico.client.fake_gateway import QUICK, Events, Peer, fake_gateway


async def until_it_ends(link: Link) -> None:
    """Return when the gateway says so; until then, read."""
    while True:
        if await link.receive() == {"enough": True}:
            return


async def keep(url: str, events: Events, backoff: Backoff = QUICK, random: float = 0.5) -> None:
    with trio.fail_after(60):
        patience = replace(backoff, random=lambda: random)
        await Connection(locate(url=url), LinkOptions(), patience, events).keep(until_it_ends)


def delays(events: Events) -> list[float]:
    return [event.delay for event in events.seen if isinstance(event, Retrying)]


@pytest.mark.parametrize("code", [c for c in CloseCode if c.advice is not Advice.NO and c != 1005])
async def test_comes_back_after_every_code_that_allows_it(code: CloseCode) -> None:
    async def script(peer: Peer) -> None:
        if peer.number < 2:
            await peer.close(code, "retry_within_ms=10")
        else:
            await peer.say({"enough": True})
            await peer.forever()

    events = Events()
    async with fake_gateway(script) as gateway:
        await keep(gateway.url, events)
        assert gateway.connections == 3
    assert [str(event).partition(" ")[0] for event in events.seen] == [
        "connecting", "lost:", "retry", "connecting", "lost:", "retry", "connecting",
    ]  # fmt: skip


@pytest.mark.parametrize("code", [c for c in CloseCode if c.advice is Advice.NO])
async def test_stays_away_after_every_code_that_says_so(code: CloseCode) -> None:
    async def script(peer: Peer) -> None:
        await peer.close(code, "because")

    async with fake_gateway(script) as gateway:
        with pytest.raises(SentAway) as caught:
            await keep(gateway.url, Events())
        assert gateway.connections == 1
    assert caught.value.code == code
    assert code.meaning in str(caught.value)
    assert "because" in str(caught.value)


async def test_comes_back_when_the_connection_was_just_gone() -> None:
    async def script(peer: Peer) -> None:
        if peer.number < 3:
            await peer.drop()
        else:
            await peer.say({"enough": True})
            await peer.forever()

    events = Events()
    async with fake_gateway(script) as gateway:
        gateway.slam = 2
        await keep(gateway.url, events)
    assert len(events.of(Lost)) == 5
    assert [event.attempt for event in events.seen if isinstance(event, Connecting)] == [1, 2, 3, 4, 5, 6]


async def test_a_restarting_node_spreads_its_clients_over_its_window() -> None:
    async def script(peer: Peer) -> None:
        if peer.number == 0:
            await peer.close(1012, "retry_within_ms=80")
        else:
            await peer.say({"enough": True})
            await peer.forever()

    events = Events()
    async with fake_gateway(script) as gateway:
        await keep(gateway.url, events, backoff=Backoff(first=30, longest=30), random=0.25)
    assert delays(events) == pytest.approx([0.02])


async def test_without_a_window_a_restart_is_backed_off_from() -> None:
    async def script(peer: Peer) -> None:
        if peer.number == 0:
            await peer.close(1012)
        else:
            await peer.say({"enough": True})
            await peer.forever()

    events = Events()
    async with fake_gateway(script) as gateway:
        await keep(gateway.url, events, random=0.5)
    assert delays(events) == pytest.approx([0.0025])


async def test_a_connection_that_held_makes_the_next_delay_short_again() -> None:
    now = 0.0

    async def script(peer: Peer) -> None:
        nonlocal now
        if peer.number == 2:
            await peer.say({"enough": True})
            await peer.forever()
        await peer.say({"we are": "connected"})
        await peer.next()
        now += 9 if peer.number == 0 else 10
        await peer.drop()

    async def live(link: Link) -> None:
        await link.receive()
        await link.send({"go": "on"})
        await until_it_ends(link)

    events = Events()
    async with fake_gateway(script) as gateway:
        gateway.slam = 2
        with trio.fail_after(60):
            backoff = Backoff(first=0.01, longest=1, stable_after=10, random=lambda: 1.0)
            connection = Connection(locate(url=gateway.url), LinkOptions(), backoff, events, clock=lambda: now)
            await connection.keep(lambda link: live(link) if gateway.connections < 3 else until_it_ends(link))
    assert delays(events) == pytest.approx([0.01, 0.02, 0.04, 0.01])


async def test_gives_up_when_told_and_names_the_last_cause() -> None:
    async with fake_gateway(until_dropped) as gateway:
        pass
    events = Events()
    with pytest.raises(GaveUp) as caught:
        await keep(gateway.url, events, backoff=Backoff(first=0.001, longest=0.001, max_attempts=3))
    assert caught.value.attempts == 3
    assert isinstance(caught.value.__cause__, ConnectFailed)
    assert gateway.url in str(caught.value)
    assert len(events.of(Connecting)) == 3
    assert len(events.of(Retrying)) == 2


async def until_dropped(peer: Peer) -> None:
    await peer.forever()


async def test_waits_at_least_as_long_as_a_full_gateway_asks() -> None:
    async def script(peer: Peer) -> None:
        await peer.say({"enough": True})
        await peer.forever()

    events = Events()
    async with fake_gateway(script) as gateway:
        gateway.refusals.append((503, [(b"Retry-After", b"0")], b"full"))
        gateway.refusals.append((503, [(b"Retry-After", b"3600")], b"full"))
        with trio.move_on_after(5):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(keep, gateway.url, events)
                last = await events.wait_for(Retrying, 2)
                nursery.cancel_scope.cancel()
    assert isinstance(last, Retrying)
    assert last.delay >= 600  # what was asked for is bounded, too


async def test_a_refusal_for_good_is_raised_at_once() -> None:
    async with fake_gateway(until_dropped) as gateway:
        gateway.refusals.append((403, [], b""))
        with pytest.raises(HandshakeRefused):
            await keep(gateway.url, Events())


async def test_asks_again_where_the_gateway_is_before_every_attempt() -> None:
    asked = 0

    async def script(peer: Peer) -> None:
        await peer.say({"enough": True})
        await peer.forever()

    async with fake_gateway(script) as gateway:

        async def find() -> str:
            nonlocal asked
            asked += 1
            if asked < 3:
                raise DiscoveryFailed("not yet")
            return gateway.url

        await Connection(Locate("somewhere", find), LinkOptions(), QUICK, Events()).keep(until_it_ends)
    assert asked == 3


async def test_cancelling_ends_it_while_it_waits() -> None:
    async with fake_gateway(until_dropped) as gateway:
        pass
    events = Events()
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(keep, gateway.url, events, Backoff(first=3600, longest=3600))
            await events.wait_for(Retrying)
            nursery.cancel_scope.cancel()
