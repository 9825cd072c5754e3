import msgspec

from loadtest._tally import Tally


def test_the_peak_counts_who_was_there_at_the_same_moment() -> None:
    tally = Tally(registered=[1.0, 2.0, 3.0, 6.0], ended=[4.0, 5.0])
    assert tally.peak_registered() == 3


def test_the_fewest_the_most_and_those_at_the_end_of_a_span() -> None:
    tally = Tally(registered=[1.0, 2.0, 3.0, 6.0], ended=[4.0, 5.0], came=[2.5], went=[4.5])
    assert tally.range_registered(2.0, 5.5) == (1, 4, 1)
    assert tally.range_registered(3.5, 3.6) == (4, 4, 4)
    assert tally.now_registered() == 2


def test_a_client_that_comes_back_at_once_is_one_client() -> None:
    tally = Tally(registered=[1.0, 2.0], ended=[2.0])
    assert tally.peak_registered() == 1


def test_nobody_ever() -> None:
    assert Tally().peak_registered() == 0
    assert Tally().expected() == 0


def test_a_broadcast_is_owed_to_those_registered_when_it_was_sent() -> None:
    # Registered from 1 to 10, from 3 to 5, and from 4 on.
    tally = Tally(registered=[1.0, 3.0, 4.0], ended=[10.0, 5.0])
    for at, owed in ((0.5, 0), (1.0, 1), (3.5, 2), (4.0, 3), (5.0, 3), (5.5, 2), (11.0, 1)):
        tally.broadcasts = [(0, at)]
        assert tally.expected() == owed, at


def test_broadcasts_are_owed_stage_by_stage_and_not_to_those_who_get_none() -> None:
    tally = Tally(registered=[1.0, 1.0], came=[1.0], broadcasts=[(0, 2.0), (1, 3.0), (1, 4.0)])
    assert tally.expected() == 6
    assert tally.expected(frozenset({1})) == 4


def test_a_broadcast_of_one_process_is_owed_to_the_clients_of_another() -> None:
    pusher, receiver = Tally(registered=[1.0], broadcasts=[(0, 2.0)]), Tally(registered=[1.5, 1.6])
    total = Tally()
    for part in (pusher, receiver):
        # As it travels between the processes.
        total.add(msgspec.convert(msgspec.to_builtins(part), Tally))
    assert total.expected() == 3
