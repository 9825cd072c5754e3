"""Who is closed when too much is kept of unfinished messages."""

from hypothesis import given
from hypothesis import strategies as st

from service.transports.unfinished import COUNTED, Unfinished

KB = 1024


class Sender:
    """A connection in the middle of a message."""

    def __init__(self, unfinished: Unfinished, address: str, size: int, *, unlimited: bool = False) -> None:
        self.address = address
        self.allowance = None if unlimited else object()
        self.closed = 0
        self._unfinished = unfinished
        unfinished.keeps(self, size)

    def close_crowded(self) -> None:
        self.closed += 1
        self._unfinished.forget(self)


def test_the_address_that_holds_most_pays_and_its_biggest_first() -> None:
    unfinished = Unfinished(1000 * KB)
    big_alone = Sender(unfinished, "10.0.0.1", 300 * KB)
    many = [Sender(unfinished, "10.0.0.2", size * KB) for size in (90, 100, 110, 120, 130, 140)]
    assert not unfinished.exceeded.is_set()
    one_more = Sender(unfinished, "10.0.0.3", 20 * KB)
    assert unfinished.exceeded.is_set()
    assert not any(sender.closed for sender in (big_alone, one_more, *many)), "only when asked to"
    unfinished.relieve()
    assert [sender.closed for sender in many] == [0, 0, 0, 0, 0, 1]
    assert big_alone.closed == one_more.closed == 0
    assert unfinished.total == 870 * KB
    assert not unfinished.exceeded.is_set()


def test_a_network_of_ipv6_is_one_address() -> None:
    unfinished = Unfinished(1000 * KB)
    alone = Sender(unfinished, "2001:db8:1::1", 400 * KB)
    neighbours = [Sender(unfinished, f"2001:db8:2::{number}", 250 * KB) for number in range(3)]
    unfinished.relieve()
    assert not alone.closed
    assert sum(sender.closed for sender in neighbours) == 1


def test_those_without_a_rate_limit_go_last() -> None:
    unfinished = Unfinished(1000 * KB)
    worker = Sender(unfinished, "10.0.0.1", 900 * KB, unlimited=True)
    stranger = Sender(unfinished, "10.0.0.2", 200 * KB)
    unfinished.relieve()
    assert (worker.closed, stranger.closed) == (0, 1)
    other = Sender(unfinished, "10.0.0.3", 800 * KB, unlimited=True)
    unfinished.relieve()
    assert (worker.closed, other.closed) == (1, 0)


def test_little_is_not_counted_and_what_is_finished_no_more() -> None:
    unfinished = Unfinished(1000 * KB)
    sender = Sender(unfinished, "10.0.0.1", COUNTED)
    assert unfinished.total == 0
    unfinished.keeps(sender, COUNTED + 1)
    unfinished.keeps(sender, 500 * KB)
    assert unfinished.total == 500 * KB
    unfinished.keeps(sender, 0)
    unfinished.forget(sender)
    assert unfinished.total == 0


@given(
    st.lists(st.tuples(st.sampled_from("abcd"), st.integers(0, 500), st.booleans()), max_size=40),
    st.integers(1, 2000),
)
def test_whatever_is_kept_there_is_room_afterwards_and_nobody_goes_for_nothing(
    senders: list[tuple[str, int, bool]], limit: int
) -> None:
    unfinished = Unfinished(limit * KB)
    all_of_them = [Sender(unfinished, address, size * KB, unlimited=unlimited) for address, size, unlimited in senders]
    unfinished.relieve()
    sizes = [size * KB for _, size, _ in senders]
    left = sum(size for size, sender in zip(sizes, all_of_them, strict=True) if size > COUNTED and not sender.closed)
    assert unfinished.total == left <= limit * KB
    gone = [size for size, sender in zip(sizes, all_of_them, strict=True) if sender.closed]
    # Without the last that was closed there was too much.
    assert not gone or left + max(gone) > limit * KB
    assert all(sender.closed <= 1 for sender in all_of_them)
