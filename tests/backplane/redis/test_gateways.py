"""The cores of two nodes that share a real Redis: what they share besides pushes.

Clients, clocks and ticks are in the test's hands; what is between the nodes is real.
"""

import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.lowlevel
from msgspec import Raw

from portico.wire.faults import PeerFault
from portico.wire.messages import Event, Target
from service.backplane.deployment import OverRedis
from service.backplane.redis.ingress import Ingress
from service.backplane.redis.plane import SharedRules
from service.core.cluster.backplane import PATIENCE, Publication, Published
from service.core.connections.session import Session, State
from service.core.push.login_store import Login
from service.core.push.publications import publication_of
from service.core.reply import Reply
from service.core.revocations import Revocation
from tests.fakes import MemoryPeer, Stage

from ..contract import Node as ContractNode
from ..redis_server import RedisServer, redis_server, tcp_proxy
from .cores import LOG, shared_core
from .links import link

PATIENT = 60.0
PREFIX = "test:"


@asynccontextmanager
async def node(redis: RedisServer, name: str) -> AsyncIterator[Stage]:
    """One node, joined to the others."""
    stage, plane, revocations = shared_core(redis.url, name, PREFIX)
    async with trio.open_nursery() as nursery:
        await nursery.start(plane.run)
        nursery.start_soon(revocations.run)
        await until(lambda: plane.trouble is None)
        yield stage
        nursery.cancel_scope.cancel()


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    with redis_server(tmp_path / "redis") as server:
        yield server


@pytest.fixture
async def two(redis: RedisServer) -> AsyncIterator[tuple[Stage, Stage]]:
    async with AsyncExitStack() as stack:
        one, other = [await stack.enter_async_context(node(redis, name)) for name in ("n1", "n2")]
        yield one, other


async def until(holds: Callable[[], bool]) -> None:
    """Wait for something on its way."""
    with trio.fail_after(PATIENT):
        while not holds():  # noqa: ASYNC110 - peers are plain objects
            await trio.sleep(0.005)


async def came(peer: MemoryPeer, *types: str) -> list[Any]:
    """What a client was sent; it must be of these types."""
    await until(lambda: len(peer.frames) - peer.taken >= len(types))
    messages = peer.take()
    assert [message["type"] for message in messages] == list(types)
    return messages


async def client(house: Stage, client_id: str, *then: str) -> tuple[Session, MemoryPeer]:
    """A client of u1's that has registered, and was sent messages of the types `then`."""
    session, peer = house.connect("/ws")
    house.say(session, {"type": "c_client_register", "client_id": client_id, "user_id": "u1"})
    await came(peer, "registration_success", *then)
    return session, peer


async def answer(ask: Callable[..., None], *words: object) -> Any:
    """What a call tells its callback; a fault is raised."""
    answers: list[Any] = []
    ask(*words, Reply(answers.append))
    await until(lambda: bool(answers))
    (result,) = answers
    if isinstance(result, PeerFault):
        raise result
    return result


async def published(house: Stage, number: int) -> int:
    """A durable event for u1; its offset."""
    event = Event("tick", Raw(b'{"n":%d}' % number))
    publication = Publication(Target("user_id", "u1"), event, durable=True)
    receipt: Published = await answer(house.gateway.backplane.publish, publication)
    assert receipt.offset is not None
    return receipt.offset


async def start(house: Stage, ttl: float = 60.0) -> Login:
    """Log u1 in."""
    login: Login = await answer(house.gateway.logins.start, "u1", "ann", Raw(b"{}"), ttl, {})
    return login


async def test_a_login_on_one_node_is_one_on_all(two: tuple[Stage, Stage]) -> None:
    one, other = two
    _, here = await client(one, "a")
    session, there = await client(other, "b")
    login = await start(one)
    assert await came(here, "auto_login") == await came(there, "auto_login")
    _, late = await client(other, "c", "auto_login")
    other.say(session, {"type": "session_feedback", "success": True, "message": "in"})
    for peer in (here, late):
        (feedback,) = await came(peer, "session_feedback")
        assert (feedback["client_id"], feedback["session_id"]) == ("b", login.session_id)
    assert (await answer(one.gateway.logins.get, login.session_id)).feedback[0].message == "in"
    await answer(other.gateway.logins.end, login.session_id, "revoked")
    for peer in (here, there, late):
        (notice,) = await came(peer, "logout_notification")
        assert notice["reason"] == "revoked"
    await client(one, "d")
    await trio.sleep(0.05)
    assert [peer.take() for peer in (here, there, late)] == [[], [], []]


async def test_an_end_by_the_clock_is_told_once(two: tuple[Stage, Stage]) -> None:
    one, other = two
    _, here = await client(one, "a")
    _, there = await client(other, "b")
    await start(one, 0.01)
    for peer in (here, there):
        await came(peer, "auto_login")
    await trio.sleep(0.01)
    for _ in range(2):
        for house in two:
            house.pass_time(1.1)
    for peer in (here, there):
        (notice,) = await came(peer, "logout_notification")
        assert notice["reason"] == "expired"
    await trio.sleep(0.05)
    assert here.take() == there.take() == []
    await until(lambda: len(one.gateway.logins) == len(other.gateway.logins) == 0)


async def test_without_redis_a_login_is_refused_in_time(redis: RedisServer, two: tuple[Stage, Stage]) -> None:
    one, _ = two
    _, here = await client(one, "a")
    redis.stop()
    began = trio.current_time()
    with pytest.raises(PeerFault) as caught:
        await start(one)
    assert caught.value.code == "unavailable"
    _, peer = one.connect("/ws")
    session = next(session for session, known in one.peers.items() if known is peer)
    one.say(session, {"type": "c_client_register", "client_id": "late", "user_id": "u1"})
    await came(peer, "registration_success")
    assert trio.current_time() - began < 2 * PATIENCE + 10
    assert here.take() == []


@pytest.mark.shows("each is answered in order, with what it was owed")
async def test_three_registrations_in_one_segment_are_answered_in_order_each_with_what_it_was_owed(
    two: tuple[Stage, Stage],
) -> None:
    one, other = two
    await start(one)
    first = await published(one, 1)
    missed = [await published(other, n) for n in (2, 3)]
    for house in two:
        session, peer = house.connect("/ws")
        epoch = house.gateway.backplane.epoch
        resume = {"epoch": epoch, "offsets": {"user:u1": first}}
        house.say(session, {"type": "c_client_register", "client_id": "c", "user_id": "u1", "resume": resume})
        house.say(session, {"type": "c_client_register", "client_id": "c", "user_id": "u2"})
        house.say(session, {"type": "c_client_register", "client_id": "c", "user_id": "u3"})
        messages = await came(
            peer,
            "registration_success",
            "auto_login",
            "tick",
            "tick",
            "registration_success",
            "registration_success",
        )
        assert [m["user_id"] for m in messages if m["type"] == "registration_success"] == ["u1", "u2", "u3"]
        assert [m["offset"] for m in messages if m["type"] == "tick"] == missed
        # Cut before the replay came, it would have asked for all of it.
        assert messages[0]["resume"]["offsets"]["user:u1"] == first
        house.close(session)


async def test_a_client_that_registered_in_an_outage_is_told_where_it_is_afterwards(
    redis: RedisServer, two: tuple[Stage, Stage]
) -> None:
    one, other = two
    session, peer = one.connect("/ws")
    redis.kill()
    await until(lambda: one.gateway.backplane.trouble is not None)
    one.say(session, {"type": "c_client_register", "client_id": "c", "user_id": "u1"})
    (success,) = await came(peer, "registration_success")
    assert success["resume"]["recovered"] is False
    assert set(success["resume"]["offsets"].values()) == {-1}
    redis.start()
    await until(lambda: one.gateway.backplane.trouble is None and other.gateway.backplane.trouble is None)

    gaps: list[Any] = []

    def told() -> bool:
        one.pass_time(0.1)
        gaps.extend(peer.take())
        return sum(len(gap["streams"]) for gap in gaps) >= 3

    await until(told)
    for _ in range(5):
        told()
        await trio.sleep(0.02)
    assert {gap["type"] for gap in gaps} == {"stream_gap"}
    assert sorted(stream for gap in gaps for stream in gap["streams"]) == ["all", "client:c", "user:u1"], "each once"
    assert {gap["epoch"] for gap in gaps} == {one.gateway.backplane.epoch}
    one.close(session)
    missed = await published(other, 1)
    session, peer = other.connect("/ws")
    offsets = {stream: offset for gap in gaps for stream, offset in gap["offsets"].items()}
    resume = {"epoch": gaps[0]["epoch"], "offsets": offsets}
    other.say(session, {"type": "c_client_register", "client_id": "c", "user_id": "u1", "resume": resume})
    success, event = await came(peer, "registration_success", "tick")
    assert (success["resume"]["recovered"], event["offset"]) == (True, missed)


async def test_of_a_client_at_two_nodes_the_newer_stays_whatever_their_clocks_show(two: tuple[Stage, Stage]) -> None:
    one, other = two
    one.clock.move(2.5)
    _, first = await client(one, "a")
    _, second = await client(other, "a")
    await until(lambda: first.close_code is not None)
    assert (first.close_code, second.close_code) == (4009, None)


async def test_a_kick_says_what_happened_wherever_it_is_asked_for(two: tuple[Stage, Stage]) -> None:
    for house in two:
        await client(two[0], "a")
        session, _ = two[1].connect("/ws/u1")
        two[1].say(session, "x")
        elsewhere, _ = two[1].connect("/ws")
        two[1].say(elsewhere, {"type": "connect", "data": {"client_id": "a"}})
        await until(lambda: len(two[0].gateway.hub) + len(two[1].gateway.hub) == 3)
        kicked = await answer(house.gateway.presence.kick, "a")
        assert (kicked.connections, kicked.missing) == (2, None)
        for each in two:
            for known in list(each.peers):
                each.close(known, 1000)
                del each.peers[known]


async def test_what_a_node_published_and_could_not_acknowledge_is_delivered_once(
    redis: RedisServer, two: tuple[Stage, Stage]
) -> None:
    one, other = two
    _, here = await client(one, "a")
    _, there = await client(other, "b")
    accepted = trio.Event()

    never: list[Reply[object]] = []

    def publish_and_die(publication: Publication, reply: Reply[object]) -> None:
        never.append(reply)
        one.gateway.backplane.publish(publication, Reply(lambda _: accepted.set()))

    receipts: list[object] = []

    def publish(publication: Publication, reply: Reply[object]) -> None:
        def published(result: object) -> None:
            receipts.append(result)
            reply(result)

        other.gateway.backplane.publish(publication, Reply(published))

    event = {"target": {"user_id": "u1"}, "type": "cart_updated", "data": {"n": 1}}
    redis.command("XADD", f"{PREFIX}ingress", "*", "json", json.dumps(event))
    async with trio.open_nursery() as nursery:
        first = link(redis.url)
        await nursery.start(first.run)
        dying = Ingress(
            first.ask, publish_and_die, publication_of, node=lambda: "n1", prefix=PREFIX, lease=0.2, log=LOG
        )
        nursery.start_soon(dying.run)
        with trio.fail_after(PATIENT):
            await accepted.wait()
        nursery.cancel_scope.cancel()
    for peer in (here, there):
        await came(peer, "cart_updated")
    async with trio.open_nursery() as nursery:
        second = link(redis.url)
        await nursery.start(second.run)
        living = Ingress(second.ask, publish, publication_of, node=lambda: "n2", prefix=PREFIX, lease=0.2, log=LOG)
        nursery.start_soon(living.run)
        await until(lambda: living.accepted == 1)
        await until(lambda: redis.command("XLEN", f"{PREFIX}ingress") == b":0\r\n")
        nursery.cancel_scope.cancel()
    assert len(receipts) == 1
    assert here.take() == there.take() == []


async def test_a_kick_says_what_happened_where_the_asked_node_holds_one_itself(two: tuple[Stage, Stage]) -> None:
    # Closing its own connection takes the node from those that hold the client, while Redis counts them: with a wrong
    # count it waited a second for an answer that nobody owed, and named a node that was well.
    one, _ = two
    told: list[tuple[int, list[str] | None]] = []
    for round_ in range(20):
        name = f"c{round_}"
        session, _ = await client(one, name)
        one.gateway.presence.kick(name, Reply(lambda kicked: told.append((kicked.connections, kicked.missing))))
        session.closed(4010, "")
    # A clock that stands still: nothing may have to wait for its time to be over.
    await until(lambda: len(told) == 20)
    assert told == [(1, None)] * 20


@pytest.mark.shows("it reads the ingress stream under the name that it has", "from the first entry")
async def test_a_renamed_node_reads_under_the_name_that_it_has(redis: RedisServer) -> None:
    def publish(publication: Publication, reply: Reply[object]) -> None:
        deployment.backplane.publish(publication, reply)

    async with trio.open_nursery() as nursery:
        names: set[str] = set()
        for _ in range(2):
            deployment = OverRedis(
                redis.url,
                SharedRules(prefix=PREFIX, length=10, ttl=60.0),
                node="same",
                publish=publish,
                present=tuple,
                log=LOG,
            )
            ContractNode(deployment.backplane)
            await nursery.start(deployment.run)
            nursery.start_soon(deployment.take_in)
            await deployment.backplane.membership.settled.wait()
            names.add(deployment.backplane.node)
        assert len(names) == 2
        await until(lambda: redis.command("XINFO", "CONSUMERS", f"{PREFIX}ingress", "portico").count(b"pending") == 2)
        told = redis.command("XINFO", "CONSUMERS", f"{PREFIX}ingress", "portico")
        assert all(name.encode() in told for name in names)
        nursery.cancel_scope.cancel()


async def test_who_is_taken_back_at_one_node_is_closed_at_the_other(two: tuple[Stage, Stage]) -> None:
    one, other = two
    session, peer = other.connect("/ws")
    other.say(session, {"type": "c_client_register", "client_id": "c1", "user_id": "ann"})
    await until(lambda: session.state is State.REGISTERED)
    replies: list[PeerFault | None] = []
    # Redis has a clock of its own, by which this has to be in the future too.
    one.gateway.revoking.revoke(Revocation("user_id", "ann", None, one.clock.wall(), 4e9), Reply(replies.append))

    def closed() -> bool:
        other.gateway.tick()
        return peer.close_code == 4001

    await until(closed)
    assert replies == [None]


async def test_an_envelope_client_resumes_on_another_node(two: tuple[Stage, Stage]) -> None:
    one, other = two
    session, peer = one.connect("/ws")
    connect: dict[str, Any] = {"type": "connect", "data": {"client_id": "e", "user_id": "u1"}}
    one.say(session, connect)
    (greeting,) = await came(peer, "connect")
    left_off = greeting["data"]["resume"]
    one.close(session)
    missed = [await published(one, number) for number in range(3)]
    back, peer = other.connect("/ws")
    resume = {"epoch": left_off["epoch"], "offsets": left_off["offsets"]}
    other.say(back, {"type": "connect", "data": {**connect["data"], "resume": resume}})
    answer, *events = await came(peer, "connect", "notification", "notification", "notification")
    assert answer["data"]["resume"]["recovered"] is True
    assert [event["data"]["offset"] for event in events] == missed


async def test_who_looks_at_one_node_sees_users_come_and_go_at_the_other(two: tuple[Stage, Stage]) -> None:
    here, there = two
    seen: list[tuple[str, str, str | None]] = []
    stop = here.gateway.event_tail.follow(lambda node, event: seen.append((node, event.event, event.user_id)))
    await until(lambda: there.gateway.events.listening)
    first, _ = await client(there, "c1")
    await until(lambda: len(seen) == 2)
    second, _ = await client(there, "c2")
    third, _ = await client(here, "c3")
    assert await node_count(here, "u1") == 1, "so what was asked when c3 came is answered too"
    await until(lambda: len(seen) >= 4)
    assert [(node, event) for node, event, _ in seen[:2]] == [("n2", "registered"), ("n2", "user_online")]
    assert {(node, event) for node, event, _ in seen[2:]} == {("n2", "registered"), ("n1", "registered")}
    for stage, session in ((there, first), (here, third), (there, second)):
        stage.close(session)
    await until(lambda: sum(event == "left" for _, event, _ in seen) == 3)
    here.pass_time(11)
    await until(lambda: ("n1", "user_offline", "u1") in seen)
    stop()


async def node_count(house: Stage, user: str) -> int:
    """On how many other nodes a user is."""
    count: int = await answer(house.gateway.backplane.tell_holders, Target("user_id", user), "user_held", b"")
    return count


async def echo_worker(house: Stage, name: str) -> MemoryPeer:
    """A worker that is greeted."""
    session, peer = house.connect("/worker")
    house.say(session, {"type": "connect", "data": {"role": "worker", "client_id": name, "commands": ["echo"]}})
    await came(peer, "connect", "connect")
    return peer


async def requests_to(peer: MemoryPeer, count: int) -> None:
    """A worker is sent so many requests."""
    await came(peer, *["request"] * count)


@pytest.mark.parametrize("delay", [0.0, 0.1])
async def test_a_node_refuses_no_request_from_its_first_moment_that_another_s_worker_serves(
    redis: RedisServer, delay: float
) -> None:
    """Nobody ticks here, so nothing is told a second time."""
    async with node(redis, "n1") as one, tcp_proxy(redis.port) as way, trio.open_nursery() as nursery:
        worker = await echo_worker(one, "w")
        way.delay = delay
        for number in range(3):
            late, plane, _ = shared_core(way.url, f"late-{number}", PREFIX)
            session, peer = late.connect("/requester")
            late.say(session, {"request_id": "early", "command": "echo"})
            await nursery.start(plane.run)
            while plane.trouble is not None:
                await trio.lowlevel.checkpoint()
            late.say(session, {"request_id": "ready", "command": "echo"})
            late.say(session, {"request_id": "nobody's", "command": "sum"})
            await requests_to(worker, 2)
            await until(lambda peer=peer: len(peer.frames) > peer.taken)  # type: ignore[misc]
            (refused,) = peer.take()
            assert (refused["request_id"], refused["error"]) == ("nobody's", "No available workers")
        nursery.cancel_scope.cancel()


@pytest.mark.shows("go to these", "as soon as the node hears the others again")
async def test_what_was_told_while_a_node_did_not_hear_it_knows_as_soon_as_it_does(redis: RedisServer) -> None:
    """Nobody ticks here, so nothing is told a second time."""
    async with node(redis, "n1") as one, tcp_proxy(redis.port) as way, trio.open_nursery() as nursery:
        other, plane, _ = shared_core(way.url, "n2", PREFIX)
        await nursery.start(plane.run)
        await until(lambda: plane.trouble is None)
        way.refusing = True
        way.cut()
        worker = await echo_worker(one, "w")
        await until(lambda: plane.subscription.trouble is not None)
        way.refusing = False
        await until(lambda: plane.trouble is None)
        session, _ = other.connect("/requester")
        other.say(session, {"request_id": "r", "command": "echo"})
        await requests_to(worker, 1)
        nursery.cancel_scope.cancel()
