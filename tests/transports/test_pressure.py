"""Who is too slow, and when: the rules by themselves, on a clock turned by hand."""

from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st

from service.transports.pressure import FRAME_COST, LEAST, Ledger, Pressure

KB = 1024
SIZE = 10 * KB


class Reader:
    """A connection whose peer takes what the test says."""

    def __init__(self, pressure: Pressure) -> None:
        self.pressure = pressure
        self.queue: list[bytes] = []
        self.waiting = 0
        self.has_taken = 0
        self.closed = False

    @property
    def frame_count(self) -> int:
        return len(self.queue)

    def first_frames(self, count: int) -> Iterable[bytes]:
        return self.queue[:count]

    def last_frames(self, count: int) -> Iterable[bytes]:
        return self.queue[-count:]

    def taken(self) -> int:
        return self.has_taken

    def close_slow(self) -> None:
        self.closed = True
        self.pressure.forget(self)
        self.queue = []
        self.waiting = 0

    def send(self, frame: bytes) -> None:
        """As a transport does."""
        if self.closed:
            return
        if self.waiting > self.pressure.limit and not self.pressure.admits(self):
            if not self.closed:
                self.close_slow()
            return
        self.queue.append(frame)
        self.waiting += len(frame)
        self.pressure.entered(self)

    def take(self, count: int) -> None:
        """The peer takes whole frames."""
        out = sum(map(len, self.queue[:count]))
        self.has_taken += out
        self.waiting -= out
        if count >= len(self.queue):
            self.pressure.forget(self)
        else:
            self.pressure.written(self, count)
        del self.queue[:count]


class Scene:
    """The bounds, and time."""

    def __init__(self, *, hard_limit: int = 1 << 30, total_limit: int = 1 << 30) -> None:
        self.now = 0.0
        self.pressure = Pressure(
            limit=100 * KB,
            hard_limit=hard_limit,
            total_limit=total_limit,
            slow_seconds=5.0,
            clock=lambda: self.now,
        )

    def reader(self, frames: int = 0) -> Reader:
        """One for which so many frames of its own wait."""
        reader = Reader(self.pressure)
        for _ in range(frames):
            reader.send(bytes(bytearray(SIZE)))
        return reader

    def pass_time(self, seconds: float) -> None:
        for _ in range(round(seconds * 10)):
            self.now += 0.1
            self.pressure.look()

    def metric(self, name: str) -> float:
        return next(metric.value for metric in self.pressure.metrics() if metric.name == name)


def test_who_takes_nothing_is_closed_when_the_time_is_over_and_not_before() -> None:
    scene = Scene()
    reader = scene.reader(20)
    scene.pass_time(4.9)
    assert not reader.closed
    scene.pass_time(0.4)
    assert reader.closed
    assert scene.metric("outbound_bytes") == scene.metric("connections_with_backlog") == 0


def test_who_takes_a_little_all_the_time_stays() -> None:
    scene = Scene()
    reader = scene.reader(2000)
    for _ in range(600):
        scene.pass_time(1)
        reader.take(1)  # 10 KB a second, for ten minutes
        reader.send(b"x" * SIZE)
    assert not reader.closed


def test_who_takes_far_too_little_does_not() -> None:
    scene = Scene()
    reader = scene.reader(2000)
    for _ in range(6):
        scene.pass_time(1)
        reader.has_taken += LEAST // 6
    assert reader.closed


def test_up_to_the_limit_may_wait_for_ever() -> None:
    scene = Scene()
    reader = scene.reader(10)
    scene.pass_time(60)
    assert not reader.closed


def test_the_time_counts_from_when_the_limit_was_passed() -> None:
    scene = Scene()
    reader = scene.reader(10)
    scene.pass_time(60)
    reader.send(b"y" * SIZE)
    scene.pass_time(4.9)
    assert not reader.closed
    reader.take(5)
    scene.pass_time(1)
    for _ in range(5):
        reader.send(b"y" * SIZE)
    scene.pass_time(4.9)
    assert not reader.closed, "in between it was below"
    scene.pass_time(0.5)
    assert reader.closed


def test_the_hard_bound_is_what_it_takes_in_the_time_and_more() -> None:
    scene = Scene(hard_limit=50 * (SIZE + FRAME_COST))
    still = scene.reader(100)
    assert still.closed
    reader = scene.reader(45)
    scene.pass_time(1)
    reader.take(40)
    for number in range(80):
        reader.send(bytes((number,)) * SIZE)
    assert not reader.closed, "40 frames taken: 90 may wait"
    scene.pass_time(5)
    assert not reader.closed, "what it took in the stretch before counts"
    for number in range(20):
        reader.send(bytes((number,)) * SIZE)
    assert reader.closed


def test_empty_messages_are_bounded_too() -> None:
    scene = Scene(hard_limit=2 * KB * KB)
    reader = scene.reader(11)
    for _ in range(100_000):
        reader.send(b"")
    assert reader.closed


def test_too_much_in_all_closes_those_that_take_least() -> None:
    scene = Scene(total_limit=100 * (SIZE + FRAME_COST))
    good, bad, worst = scene.reader(40), scene.reader(30), scene.reader(20)
    scene.pass_time(1)
    good.take(10)
    bad.take(1)
    for number in range(30):
        good.send(bytes((100 + number,)) * SIZE)
    scene.pass_time(0.1)
    assert worst.closed
    assert not bad.closed
    assert not good.closed
    assert scene.metric("outbound_bytes") <= 100 * (SIZE + FRAME_COST)


def test_frames_that_many_wait_for_count_once() -> None:
    scene = Scene(total_limit=30 * (SIZE + FRAME_COST))
    frames = [bytes((number,)) * SIZE for number in range(20)]
    crowd = [scene.reader() for _ in range(100)]
    for reader in crowd:
        for frame in frames:
            reader.send(frame)
    scene.pass_time(0.1)
    assert scene.metric("outbound_bytes") == 20 * (SIZE + FRAME_COST)
    assert scene.metric("connections_with_backlog") == 100
    assert not any(reader.closed for reader in crowd)
    for reader in crowd:
        reader.take(20)
    assert scene.metric("outbound_bytes") == scene.metric("connections_with_backlog") == 0


@given(st.lists(st.tuples(st.integers(0, 4), st.sampled_from(["send", "take", "look", "close"]), st.integers(0, 5))))
def test_the_ledger_is_what_waits(steps: list[tuple[int, str, int]]) -> None:
    scene = Scene()
    readers = [scene.reader() for _ in range(5)]
    frames = [bytes((number,)) * (SIZE + number) for number in range(6)]
    for who, what, which in steps:
        reader = readers[who]
        if what == "send":
            reader.send(frames[which])
        elif what == "take" and reader.queue:
            reader.take(which)
        elif what == "look":
            scene.pass_time(0.1)
        elif what == "close":
            reader.close_slow()
    scene.pass_time(0.1)
    unique = {id(frame): len(frame) + FRAME_COST for reader in readers for frame in reader.queue}
    assert scene.metric("outbound_bytes") == sum(unique.values())


def test_a_ledger_forgets_whoever_nobody_waits_for() -> None:
    ledger = Ledger()
    frame = b"x" * 1000
    ledger.hold(frame)
    ledger.hold(frame)
    assert ledger.total == 1000 + FRAME_COST
    ledger.release(frame)
    assert ledger.total == 1000 + FRAME_COST
    ledger.release(frame)
    assert ledger.total == 0
    assert not ledger._holders
