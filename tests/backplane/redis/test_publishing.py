"""A push on its way: what Redis and the other nodes answer, in any order, comes to one receipt."""

from collections.abc import Callable

import pytest
import trio
from msgspec import Raw

from portico.wire.codes import ErrorCode
from portico.wire.faults import PeerFault
from portico.wire.messages import Event, Target
from service.backplane.redis import publishing
from service.backplane.redis.names import Names
from service.backplane.redis.payloads import Ack, receipt
from service.backplane.redis.publishing import MAX_PUSH, Publisher
from service.core.cluster.backplane import PATIENCE, Publication, Published
from service.core.reply import Reply
from service.observe import make_log
from service.redis.faults import Refusal, Unreachable

ANN = Target("user_id", "ann")


class Sent:
    """What was sent to Redis, to be answered by the test."""

    def __init__(self) -> None:
        self.words: list[tuple[object, ...]] = []
        self.done: list[Callable[[object], None]] = []
        self.loaded = 0

    def send(self, *words: object, done: Callable[[object], None] = lambda _: None) -> None:
        if words[0] == "SCRIPT":
            self.loaded += 1
            return
        self.words.append(words)
        self.done.append(done)


class House:
    """A Publisher, and what surrounds it; its Progress too."""

    def __init__(self) -> None:
        self.redis = Sent()
        self.epoch = "e1"
        self.seen = 0
        self.renewals: list[Callable[[], None]] = []
        self.accepted: list[int] = []
        self.publisher = Publisher(
            self.redis,  # type: ignore[arg-type]
            Names("test:"),
            "n",
            self,
            length=10,
            ttl=60.0,
            renew=self.renewals.append,
            make_id=lambda: "made",
            log=make_log("json", "critical"),
        )

    def on_accepted(self, offset: int) -> None:
        """What Redis has accepted."""
        self.accepted.append(offset)

    def publish(self, publication_id: str | None = None, durable: bool = False, data: bytes = b"{}") -> list[object]:
        """Publish; what comes of it."""
        answers: list[object] = []
        publication = Publication(ANN, Event("t", Raw(data)), publication_id, durable)
        self.publisher.publish(publication, Reply(answers.append))
        return answers

    def acknowledge(self, number: int = 0) -> None:
        """One node has it: it matched one, and was handed to it. `number`: which of the pushes, from the last."""
        [*_, which] = list(self.publisher._underway)[: len(self.publisher._underway) - number]
        self.publisher.acknowledged([Ack(which, 1, 1)])


@pytest.fixture
async def house() -> House:  # a clock is needed, so it is made within trio
    return House()


async def test_a_receipt_comes_when_every_node_has_answered_in_any_order(house: House) -> None:
    first, second = house.publish(), house.publish(durable=True)
    house.redis.done[0](2)
    house.acknowledge(1)
    assert first == []
    house.acknowledge(1)
    assert first == [Published("made", None, None, 2, 2)]
    house.acknowledge()  # before Redis's own answer
    house.redis.done[1]([0, 1, b"77"])
    assert second == [Published("made", "user:ann", 77, 1, 1)]
    assert house.accepted == [77]
    assert (house.publisher.accepted, house.publisher.underway) == (77, 0)


async def test_after_patience_the_receipt_says_what_is_known(house: House) -> None:
    answers = house.publish()
    house.redis.done[0](3)
    house.acknowledge()
    house.publisher.look(trio.current_time() + PATIENCE + 1)
    assert answers == [Published("made", None, None, 1, 1)]
    assert house.publisher.acks_late == 1


@pytest.mark.parametrize("answer", [Refusal("OOM no room"), Unreachable("gone"), None, [2, b"e2", b"x"]])
async def test_what_is_no_acceptance_is_refused_once(house: House, answer: object) -> None:
    answers = house.publish("one", durable=True)
    house.redis.done[0](answer)
    [fault] = answers
    assert isinstance(fault, PeerFault)
    assert fault.code is ErrorCode.UNAVAILABLE
    assert "same id" in fault.message
    assert house.publisher.underway == 0


async def test_one_that_named_an_epoch_that_is_over_is_sent_once_more_in_its_order(house: House) -> None:
    first, second = house.publish("a", durable=True), house.publish("b", durable=True)
    house.redis.done[0]([2, b"e2"])
    third = house.publish()  # it has to wait its turn
    house.redis.done[1]([2, b"e2"])
    assert len(house.redis.words) == 2
    assert len(house.renewals) == 1
    house.epoch = "e2"
    house.renewals[0]()
    assert [words[3] for words in house.redis.words[2:4]] == [b"test:i:a", b"test:i:b"]
    assert [words[0] for words in house.redis.words[2:]] == ["EVALSHA", "EVALSHA", b"PUBLISH"]
    assert [words[-1] for words in house.redis.words[2:4]] == ["e2", "e2"]
    house.redis.done[2]([0, 0, b"5"])
    house.redis.done[4](0)
    assert isinstance(first[0], Published)
    assert isinstance(third[0], Published)
    house.redis.done[3]([2, b"e3"])
    assert isinstance(second[0], PeerFault), "not for ever"


async def test_an_id_that_is_known_gets_the_first_receipt(house: House) -> None:
    answers = house.publish("one", durable=True)
    known = Published("one", "user:ann", 5, 3, 2)
    house.redis.done[0]([1, receipt(known), 300_000])
    assert answers == [known._replace(repeated=True)]
    assert house.accepted == []


async def test_one_whose_first_publisher_died_is_answered_with_what_is_known(house: House) -> None:
    answers = house.publish("one", durable=True)
    house.redis.done[0]([1, b"\0" + (7).to_bytes(8, "big"), 300_000])
    assert answers == []
    house.publisher.look(trio.current_time())
    assert house.redis.words[-1][0] == "GET"
    house.redis.done[-1](b"\0" + (7).to_bytes(8, "big"))
    assert answers == []
    house.publisher._asking[0].until = 0.0
    house.publisher.look(trio.current_time())
    house.redis.done[-1](b"\0" + (7).to_bytes(8, "big"))
    assert answers == [Published("one", "user:ann", 7, 0, 0, True)]


async def test_what_is_too_large_or_too_many_is_refused_at_once(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    [fault] = house.publish(data=b" " * (MAX_PUSH + 1))
    assert isinstance(fault, PeerFault)
    assert fault.code is ErrorCode.TOO_LARGE
    monkeypatch.setattr(publishing, "MAX_UNDERWAY", 1)
    waiting = house.publish()
    [fault] = house.publish()
    assert isinstance(fault, PeerFault)
    assert fault.code is ErrorCode.UNAVAILABLE
    house.redis.done[0](0)
    assert isinstance(waiting[0], Published)


async def test_scripts_that_redis_has_forgotten_turn_no_order_round(house: House) -> None:
    first, second = house.publish("a", durable=True), house.publish("b", durable=True)
    house.redis.done[0](Refusal("NOSCRIPT No matching script."))
    third = house.publish("c", durable=True)
    house.redis.done[1](Refusal("NOSCRIPT No matching script."))
    assert house.redis.loaded == 1
    house.renewals[0]()
    sent = [words[3] for words in house.redis.words if words[0] == "EVALSHA"]
    assert sent == [b"test:i:a", b"test:i:b", b"test:i:a", b"test:i:b", b"test:i:c"]
    for done in house.redis.done[-3:]:
        done([0, 0, b"5"])
    assert all(isinstance(answers[0], Published) for answers in (first, second, third))
