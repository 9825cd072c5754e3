"""Epochs: which are over, and which pushes were delivered not long ago."""

from service.backplane.redis.epochs import LIFE, OVER, PUBLISHERS, REMEMBERED, REMEMBERED_SECONDS, Epochs


def test_the_first_one_ends_none() -> None:
    epochs = Epochs()
    assert (epochs.name, epochs.word) == ("", b"")
    assert epochs.begin("one") is False
    assert epochs.begin("one") is False
    assert (epochs.name, epochs.word) == ("one", b"one")
    assert not epochs.is_over(b"one")


def test_those_before_are_over_and_those_that_nobody_knows_are_not() -> None:
    epochs = Epochs()
    for n in range(OVER + 2):
        assert epochs.begin(f"e{n}") is (n > 0)
    assert epochs.is_over(f"e{OVER}".encode())
    assert not epochs.is_over(f"e{OVER + 1}".encode())
    assert not epochs.is_over(b"another")
    assert not epochs.is_over(b"e0"), "what is remembered is bounded"


def test_an_id_is_repeated_for_those_who_were_there() -> None:
    epochs = Epochs()
    assert not epochs.is_repeated("id", 10.0, joined_at=5.0)
    assert epochs.is_repeated("id", 11.0, joined_at=5.0)
    # Somebody has come since, and may not have had it.
    assert not epochs.is_repeated("id", 12.0, joined_at=10.5)
    assert epochs.is_repeated("id", 13.0, joined_at=10.5)
    # Redis accepts it as another push after a time.
    assert not epochs.is_repeated("id", 12.0 + REMEMBERED_SECONDS, joined_at=5.0)


def test_a_push_of_an_epoch_that_is_over_is_late_once_it_was_overtaken() -> None:
    epochs = Epochs()
    epochs.begin("one")
    assert not epochs.is_late("a", 9, b"one", matters=True)
    assert not epochs.is_late("a", 8, b"one", matters=True), "no epoch has ended"
    epochs.begin("two")
    assert not epochs.is_late("a", 5, b"one", matters=True)
    assert not epochs.is_late("a", 7, b"two", matters=False)
    assert epochs.is_late("a", 6, b"one", matters=True)
    assert not epochs.is_late("a", 6, b"one", matters=False)
    assert not epochs.is_late("a", 6, b"two", matters=True)
    assert not epochs.is_late("b", 6, b"one", matters=True)
    # A node that comes again under its name begins with another number.
    assert not epochs.is_late("a", (1 << LIFE) + 7, b"one", matters=True)
    assert not epochs.is_late("a", 6, b"one", matters=True)


def test_publishers_that_are_remembered_are_bounded() -> None:
    epochs = Epochs()
    epochs.begin("one")
    epochs.begin("two")
    for n in range(PUBLISHERS + 1):
        epochs.is_late(str(n), 9, b"two", matters=True)
    assert not epochs.is_late("0", 8, b"one", matters=True)
    assert epochs.is_late(str(PUBLISHERS), 8, b"one", matters=True)


def test_what_is_remembered_is_bounded() -> None:
    epochs = Epochs()
    for n in range(REMEMBERED + 1):
        epochs.is_repeated(str(n), 1.0, joined_at=0.0)
    assert not epochs.is_repeated("0", 1.0, joined_at=0.0)
    assert epochs.is_repeated(str(REMEMBERED), 1.0, joined_at=0.0)
