"""What every backplane promises, as tests; `test_memory.py` and `redis/test_plane.py` run them.

A suite has a fixture `scene`: three nodes of one deployment, which keep LENGTH events a stream. A receipt means that
every node that has joined the target has been given the push, so nothing here waits for time to pass.
"""

from collections import Counter
from collections.abc import Awaitable, Callable
from itertools import combinations
from typing import Any, NamedTuple

import pytest
import trio
from msgspec import Raw

from portico.wire.codes import ErrorCode
from portico.wire.faults import PeerFault
from portico.wire.messages import EVERYBODY, Event, Target, stream_of
from service.core.cluster.backplane import LARGEST_MESSAGE, Backplane, Joined, Publication, Published, StreamPositions
from service.core.reply import Reply

LENGTH = 50
TTL = 3600.0
PATIENT = 60.0
"""Seconds for what takes none, on a busy machine."""

ANN = Target("user_id", "ann")
BOB = Target("user_id", "b:o}b {ü")
ROOM = Target("channel_id", "room")


def event(number: int, type_: str = "tick") -> Event:
    """One of many."""
    return Event(type_, Raw(b'{"n":%d}' % number))


def number_of(one: Event) -> int:
    """Which it is."""
    return int(bytes(one.data)[5:-1])


class Client:
    """A connection: what it missed, and what came since it was told where it is."""

    def __init__(self, node: "Node", targets: tuple[Target, ...]) -> None:
        self.node = node
        self.targets = targets
        self.joined: Joined | None = None
        self.told = trio.Event()
        self.events: list[Event] = []
        self.answers = 0

    def done(self, joined: Joined) -> None:
        self.answers += 1
        self.joined = joined
        for stream in joined.missed.values():
            self.events += stream
        self.told.set()

    @property
    def numbers(self) -> list[int]:
        """What it has, by number."""
        return [number_of(one) for one in self.events]

    @property
    def at(self) -> Joined:
        """Where it was told to be."""
        assert self.joined is not None
        return self.joined

    def resume(self, **offsets: int) -> StreamPositions:
        """How it would come back, having all that it has; `offsets` instead where given."""
        at = dict(self.at.offsets)
        at.update((one.stream, one.offset) for one in self.events if one.stream is not None and one.offset is not None)
        return StreamPositions(self.at.epoch, offsets or at)

    def leave(self) -> None:
        """It is gone."""
        self.node.clients.remove(self)
        self.node.plane.leave(self.targets)


class Node:
    """A backplane, and all that it says: an observer that hands pushes to Clients as the core would."""

    def __init__(self, plane: Backplane) -> None:
        self.plane = plane
        self.clients: list[Client] = []
        self.lost_targets: list[Target] = []
        self.gaps: list[tuple[Target, str, int]] = []
        self.messages: list[tuple[str, str, bytes]] = []
        self.joined_with: list[list[str]] = []
        self._stirred = trio.Event()
        plane.attach(self, self)

    # PushObserver and NodeObserver

    def refusal(self, target: Target) -> PeerFault | None:
        return None

    def on_push(self, target: Target, event: Event) -> tuple[int, int]:
        reached = [client for client in self.clients if target in client.targets and client.told.is_set()]
        for client in reached:
            client.events.append(event)
        self._stir()
        return len(reached), len(reached)

    def on_gap(self, target: Target, epoch: str, offset: int) -> None:
        self.lost_targets.append(target)
        self.gaps.append((target, epoch, offset))
        self._stir()

    def on_message(self, sender: str, kind: str, body: bytes) -> None:
        self.messages.append((sender, kind, body))
        self._stir()

    def on_node_left(self, node: str) -> None: ...

    def on_nodes_changed(self) -> None:
        self._stir()

    def on_joined(self) -> None:
        self.joined_with.append([state.node for state in self.plane.nodes()])
        self._stir()

    def _stir(self) -> None:
        self._stirred.set()
        self._stirred = trio.Event()

    # For tests

    async def until(self, holds: Callable[[], bool]) -> None:
        """Wait for something that this node is told."""
        with trio.fail_after(PATIENT):
            while not holds():
                await self._stirred.wait()

    def connect(self, *targets: Target, resume: StreamPositions | None = None) -> Client:
        """Somebody comes; not waiting for what it is told."""
        client = Client(self, targets)
        self.clients.append(client)
        self.plane.join(targets, resume, Reply(client.done))
        return client

    async def join(self, *targets: Target, resume: StreamPositions | None = None) -> Client:
        """Somebody comes."""
        client = self.connect(*targets, resume=resume)
        with trio.fail_after(PATIENT):
            await client.told.wait()
        return client

    async def publish(self, target: Target, one: Event, **more: Any) -> Published:
        """A push; a fault is raised."""
        [published] = await self.publish_all([Publication(target, one, **more)])
        return published

    async def publish_all(self, publications: list[Publication]) -> list[Published]:
        """Pushes, without waiting for one another; a fault is raised."""
        answers: list[Published | PeerFault] = []
        all_done = trio.Event()
        by_order: dict[int, Published | PeerFault] = {}

        def done(index: int) -> Callable[[Published | PeerFault], None]:
            def answered(answer: Published | PeerFault) -> None:
                assert index not in by_order, "answered twice"
                by_order[index] = answer
                answers.append(answer)
                if len(answers) == len(publications):
                    all_done.set()

            return answered

        for index, publication in enumerate(publications):
            self.plane.publish(publication, Reply(done(index)))
        with trio.fail_after(PATIENT):
            await all_done.wait()
        published: list[Published] = []
        for index in range(len(publications)):
            answer = by_order[index]
            if isinstance(answer, PeerFault):
                raise answer
            published.append(answer)
        return published

    async def tell_holders(self, target: Target, kind: str, body: bytes) -> int:
        """How many nodes were told."""
        told = trio.Event()
        counts: list[int] = []

        def done(count: int) -> None:
            counts.append(count)
            told.set()

        self.plane.tell_holders(target, kind, body, Reply(done))
        with trio.fail_after(PATIENT):
            await told.wait()
        return counts[0]


class Scene(NamedTuple):
    """Three nodes of one deployment. `pass_time(seconds)` has events of so many seconds expire."""

    a: Node
    b: Node
    c: Node
    pass_time: Callable[[float], Awaitable[None]]


class PushContract:
    """Live pushes, and their receipts."""

    async def test_a_receipt_counts_over_all_nodes(self, scene: Scene) -> None:
        await scene.a.join(ANN)
        await scene.b.join(ANN, ROOM)
        both = await scene.b.join(EVERYBODY, ANN)
        published = await scene.c.publish(ANN, event(1))
        assert published == Published(published.id, None, None, 3, 3)
        assert published.id
        [got] = both.events
        assert got == event(1)
        assert (await scene.c.publish(EVERYBODY, event(2))).matched == 1

    async def test_a_push_that_nobody_is_there_for_has_a_receipt_too(self, scene: Scene) -> None:
        assert (await scene.a.publish(ANN, event(1))).matched == 0

    async def test_names_with_any_characters_are_told_apart(self, scene: Scene) -> None:
        names = ["x", "x:y", "x}", "{x}", "ü", "x y", "x\\n", "*"]
        clients = [await scene.a.join(Target("user_id", name)) for name in names]
        others = [await scene.a.join(Target("channel_id", name)) for name in names]
        for number, name in enumerate(names):
            await scene.b.publish(Target("user_id", name), event(number), durable=number % 2 == 0)
        assert [client.numbers for client in clients] == [[number] for number in range(len(names))]
        assert [client.numbers for client in others] == [[] for _ in names]

    async def test_one_publisher_keeps_its_order(self, scene: Scene) -> None:
        clients = [await node.join(ANN) for node in (scene.a, scene.b)]
        publications = [
            Publication(ANN, event(n), id=f"id-{n}" if n % 3 == 0 else None, durable=n % 2 == 0) for n in range(300)
        ]
        receipts = await scene.a.publish_all(publications)
        for client in clients:
            assert client.numbers == list(range(300))
        assert {receipt.matched for receipt in receipts} == {2}

    async def test_what_comes_is_what_was_published(self, scene: Scene) -> None:
        client = await scene.a.join(ANN)
        live = Event("cart \u00e9", Raw(b'{"a": [1e2, "\xc3\xa9"] }'))
        await scene.b.publish(ANN, live)
        kept = await scene.b.publish(ANN, live, durable=True)
        assert client.events == [live, Event(live.type, live.data, "user:ann", kept.offset)]
        assert kept.stream == "user:ann"

    async def test_who_left_gets_nothing(self, scene: Scene) -> None:
        switching = await scene.a.join(EVERYBODY, ANN)
        switching.leave()
        again = await scene.a.join(EVERYBODY, BOB)
        assert (await scene.b.publish(ANN, event(1))).matched == 0
        assert (await scene.b.publish(BOB, event(2))).matched == 1
        assert (await scene.b.publish(EVERYBODY, event(3))).matched == 1
        assert again.numbers == [2, 3]

    async def test_coming_and_going_without_waiting(self, scene: Scene) -> None:
        gone: list[Client] = []
        for _ in range(30):
            client = scene.a.connect(EVERYBODY, ANN)
            client.leave()
            gone.append(client)
        last = await scene.a.join(EVERYBODY, ANN)
        assert (await scene.b.publish(ANN, event(1), durable=True)).matched == 1
        assert last.numbers == [1]
        with trio.fail_after(PATIENT):
            for client in gone:
                await client.told.wait()
        assert {client.answers for client in [*gone, last]} == {1}


class IdContract:
    """Pushes with an id of the publisher's."""

    @pytest.mark.parametrize("durable", [False, True])
    async def test_an_id_is_delivered_once(self, scene: Scene, durable: bool) -> None:
        client = await scene.a.join(ANN)
        first = await scene.a.publish(ANN, event(1), id="one", durable=durable)
        again = await scene.b.publish(ANN, event(2), id="one", durable=durable)
        assert (first.id, first.matched, first.repeated) == ("one", 1, False)
        assert again == first._replace(repeated=True)
        assert client.numbers == [1]

    async def test_an_id_counts_whatever_the_target(self, scene: Scene) -> None:
        await scene.a.join(ANN)
        bob = await scene.a.join(BOB)
        first = await scene.a.publish(ANN, event(1), id="one", durable=True)
        assert await scene.a.publish(BOB, event(1), id="one") == first._replace(repeated=True)
        assert bob.events == []

    @pytest.mark.parametrize("durable", [False, True])
    async def test_an_id_on_two_nodes_at_once(self, scene: Scene, durable: bool) -> None:
        client = await scene.c.join(ANN)
        receipts: list[Published] = []

        async def publish(node: Node) -> None:
            receipts.extend(await node.publish_all([Publication(ANN, event(1), "one", durable)] * 5))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(publish, scene.a)
            nursery.start_soon(publish, scene.b)
        assert client.numbers == [1]
        assert Counter(receipt.repeated for receipt in receipts) == {False: 1, True: 9}
        assert len({receipt._replace(repeated=False) for receipt in receipts}) == 1
        assert receipts[0].matched == 1


class HistoryContract:
    """Durable events, and who comes back for them."""

    async def test_who_comes_back_gets_what_it_missed_on_any_node(self, scene: Scene) -> None:
        client = await scene.a.join(ANN, ROOM)
        kept = [await scene.b.publish(ANN, event(n), durable=True) for n in range(3)]
        client.leave()
        kept += [await scene.b.publish(ANN, event(n), durable=True) for n in range(3, 6)]
        await scene.b.publish(ANN, event(99))
        for node in (scene.c, scene.b, scene.a):
            back = await node.join(ANN, ROOM, resume=client.resume())
            assert back.at.recovered
            assert back.at.missed == {
                "user:ann": [Event("tick", event(n).data, "user:ann", kept[n].offset) for n in range(3, 6)]
            }
            assert not back.at.lost
            assert back.resume().offsets["user:ann"] >= (kept[-1].offset or 0)
        offsets = [receipt.offset for receipt in kept]
        assert offsets == sorted(set(offsets), key=lambda offset: offset or 0)

    async def test_where_nothing_happened_nothing_was_missed(self, scene: Scene) -> None:
        client = await scene.a.join(EVERYBODY, ANN)
        assert set(client.at.offsets) == {"all", "user:ann"}
        client.leave()
        back = await scene.b.join(EVERYBODY, ANN, resume=client.resume())
        assert (back.at.recovered, back.at.missed, list(back.at.lost)) == (True, {}, [])
        back.leave()
        await scene.c.publish(ANN, event(1), durable=True)
        again = await scene.c.join(EVERYBODY, ANN, resume=back.resume())
        assert (again.at.recovered, again.numbers) == (True, [1])

    async def test_a_stream_that_is_not_its_own_any_more_is_not_given(self, scene: Scene) -> None:
        client = await scene.a.join(ANN)
        client.leave()
        await scene.a.publish(ANN, event(1), durable=True)
        other = await scene.a.join(BOB, resume=client.resume())
        assert (other.at.recovered, other.events, set(other.at.offsets)) == (True, [], {stream_of(BOB)})

    async def test_nobody_is_given_part_of_it(self, scene: Scene) -> None:
        client = await scene.a.join(ANN, ROOM)
        kept = await scene.a.publish_all([Publication(ANN, event(n), durable=True) for n in range(LENGTH + 10)])
        await scene.a.publish(ROOM, event(1), durable=True)
        offsets = [receipt.offset or 0 for receipt in kept]
        epoch = client.at.epoch

        async def resumed(offset: int, epoch: str = epoch) -> tuple[bool, list[int]]:
            room = client.at.offsets["channel:room"]
            back = await scene.b.join(
                ANN, ROOM, resume=StreamPositions(epoch, {"user:ann": offset, "channel:room": room})
            )
            back.leave()
            assert ("user:ann" in back.at.lost) is ("user:ann" not in back.at.missed and offset != offsets[-1])
            assert back.at.recovered is not bool(back.at.lost)
            return back.at.recovered, [number_of(one) for one in back.at.missed.get("user:ann", [])]

        assert await resumed(offsets[8]) == (False, [])
        assert await resumed(offsets[9]) == (True, list(range(10, LENGTH + 10)))
        assert await resumed(offsets[30]) == (True, list(range(31, LENGTH + 10)))
        assert await resumed(offsets[-1]) == (True, [])
        for nonsense in (offsets[-1] + 10**12, -1, 0):
            assert await resumed(nonsense) == (False, [])
        assert await resumed(offsets[30], "another") == (False, [])

    async def test_one_stream_lost_does_not_spoil_another(self, scene: Scene) -> None:
        client = await scene.a.join(ANN, ROOM)
        await scene.a.publish(ROOM, event(1), durable=True)
        await scene.a.publish_all([Publication(ANN, event(n), durable=True) for n in range(LENGTH + 1)])
        back = await scene.b.join(
            ANN, ROOM, resume=StreamPositions(client.at.epoch, {**client.at.offsets, "user:nobody": 1})
        )
        assert (back.at.recovered, list(back.at.lost)) == (False, ["user:ann"])
        assert [number_of(one) for one in back.at.missed["channel:room"]] == [1]

    async def test_an_event_that_is_over_is_not_lost(self, scene: Scene) -> None:
        client = await scene.a.join(ANN, ROOM)
        client.leave()
        await scene.a.publish(ANN, event(1), durable=True)
        await scene.a.publish(ANN, event(2), durable=True, ttl=0.2)
        long = await scene.a.publish(ANN, event(3), durable=True, ttl=TTL * 10)
        await scene.a.publish(ROOM, event(4), durable=True, ttl=0.2)
        await scene.pass_time(0.2)
        back = await scene.b.join(ANN, ROOM, resume=client.resume())
        assert (back.at.recovered, back.numbers) == (True, [1, 3])
        assert back.events[-1].offset == long.offset

    @pytest.mark.parametrize("seed", range(3))
    async def test_coming_back_while_much_is_published(self, scene: Scene, seed: int) -> None:
        """Who leaves and comes back, again and again and anywhere, has every event once and in publication."""
        nodes = [scene.a, scene.b, scene.c]
        first = await scene.a.join(ANN, EVERYBODY)
        beginning = first.resume()
        total = LENGTH - 2
        over = trio.Event()

        async def publish() -> None:
            for n in range(total):
                await nodes[(n + seed) % 3].publish(ANN, event(n), durable=True)
            over.set()

        async def wander(steps: int) -> None:
            resume = beginning
            had: list[int] = []
            while True:
                ending = over.is_set()
                node = nodes[steps % 3]
                steps += 1 + seed
                client = await node.join(ANN, EVERYBODY, resume=resume)
                assert client.at.recovered
                for _ in range(steps % 4):
                    await trio.lowlevel.checkpoint()
                client.leave()
                had += client.numbers
                resume = client.resume()
                if ending:
                    break
            assert had == list(range(total))

        async with trio.open_nursery() as nursery:
            for steps in range(6):
                nursery.start_soon(wander, steps)
            nursery.start_soon(publish)
        assert first.numbers == list(range(total))

    async def test_what_is_too_large_to_be_kept_is_refused(self, scene: Scene) -> None:
        await scene.a.join(ANN)
        large = Event("large", Raw(b'{"a":"%b"}' % (b"x" * (17 << 20))))
        with pytest.raises(PeerFault) as refused:
            await scene.a.publish(ANN, large, durable=True)
        assert refused.value.code is ErrorCode.TOO_LARGE


class NeighbourContract:
    """Messages of nodes to one another."""

    async def test_messages_come_in_order_and_never_to_oneself(self, scene: Scene) -> None:
        a, b, c = scene.a, scene.b, scene.c
        for n in range(100):
            a.plane.tell(b.plane.node, "one", b"%d" % n)
            a.plane.tell(a.plane.node, "one", b"oneself")
            a.plane.tell_all("all", b"\x00%d\xff" % n)
        a.plane.tell("nobody", "one", b"")
        a.plane.tell_all("end", b"")
        for node in (b, c):
            await node.until(lambda node=node: bool(node.messages) and node.messages[-1][1] == "end")  # type: ignore[misc]
        of_a = a.plane.node
        assert [m for m in b.messages if m[1] == "one"] == [(of_a, "one", b"%d" % n) for n in range(100)]
        assert [m for m in c.messages if m[1] == "all"] == [(of_a, "all", b"\x00%d\xff" % n) for n in range(100)]
        assert [m for m in c.messages if m[1] == "one"] == []
        assert a.messages == []

    async def test_messages_of_the_largest_size_arrive(self, scene: Scene) -> None:
        a, b = scene.a, scene.b
        a.plane.tell(b.plane.node, "large", b"x" * LARGEST_MESSAGE)
        await b.until(lambda: bool(b.messages))
        assert [(kind, len(body)) for _, kind, body in b.messages] == [("large", LARGEST_MESSAGE)]

    async def test_holders_of_a_target_are_told_and_counted(self, scene: Scene) -> None:
        a, b, c = scene.a, scene.b, scene.c
        assert await a.tell_holders(ANN, "kick", b"") == 0
        mine = await a.join(ANN)
        theirs = await b.join(ANN)
        await c.join(BOB)
        assert await a.tell_holders(ANN, "kick", b"1") == 1
        assert await c.tell_holders(ANN, "kick", b"2") == 2
        await b.until(lambda: len(b.messages) == 2)
        assert sorted(b.messages) == [(a.plane.node, "kick", b"1"), (c.plane.node, "kick", b"2")]
        await a.until(lambda: len(a.messages) == 1)
        assert a.messages == [(c.plane.node, "kick", b"2")]
        assert c.messages == []
        theirs.leave()
        mine.leave()
        # Leaving is only heard of by Redis in its turn; joining another target comes after it.
        await a.join(ROOM)
        await b.join(ROOM)
        assert await c.tell_holders(ANN, "kick", b"3") == 0

    async def test_nodes_know_one_another(self, scene: Scene) -> None:
        names = {node.plane.node for node in (scene.a, scene.b, scene.c)}
        for node in (scene.a, scene.b, scene.c):
            await node.until(lambda node=node: {state.node for state in node.plane.nodes()} == names)  # type: ignore[misc]

    async def test_a_node_is_told_that_it_has_joined_the_others_once_it_knows_all(self, scene: Scene) -> None:
        for node in (scene.a, scene.b, scene.c):
            await node.until(lambda node=node: bool(node.joined_with))  # type: ignore[misc]
        # Of two that start at the same moment one knows the other by then, whichever came first.
        for one, other in combinations((scene.a, scene.b, scene.c), 2):
            assert other.plane.node in one.joined_with[-1] or one.plane.node in other.joined_with[-1]


class BackplaneContract(PushContract, IdContract, HistoryContract, NeighbourContract):
    """All of it."""
