from service.transports.wheel import TICK, Wheel


class Entry:
    def __init__(self) -> None:
        self.tick = 0


def test_fires_late_by_a_tick_at_most_and_never_early() -> None:
    wheel: Wheel[Entry] = Wheel(100.0)
    entry = Entry()
    wheel.set(entry, 105.05)
    assert list(wheel.sweep(105.0)) == []
    assert list(wheel.sweep(105.05 + TICK)) == [entry]
    assert list(wheel.sweep(200.0)) == []
    assert len(wheel) == 0


def test_a_new_deadline_replaces_the_old_one() -> None:
    wheel: Wheel[Entry] = Wheel(0.0)
    entry = Entry()
    wheel.set(entry, 1.0)
    wheel.set(entry, 5.0)
    assert list(wheel.sweep(3.0)) == []
    wheel.set(entry, 3.0)
    assert list(wheel.sweep(4.0)) == [entry]


def test_a_deadline_in_the_past_fires_at_the_next_tick() -> None:
    wheel: Wheel[Entry] = Wheel(100.0)
    entry = Entry()
    wheel.set(entry, 50.0)
    assert list(wheel.sweep(100.0 + 2 * TICK)) == [entry]


def test_dropped_entries_never_fire() -> None:
    wheel: Wheel[Entry] = Wheel(0.0)
    first, second = Entry(), Entry()
    wheel.set(first, 1.0)
    wheel.set(second, 1.0)
    fired = []
    for entry in wheel.sweep(2.0):
        fired.append(entry)
        wheel.drop(first)
        wheel.drop(second)
    assert len(fired) == 1
    assert len(wheel) == 0


def test_an_entry_may_be_set_again_while_it_is_swept() -> None:
    wheel: Wheel[Entry] = Wheel(0.0)
    entry = Entry()
    wheel.set(entry, 1.0)
    for due in wheel.sweep(2.0):
        wheel.set(due, 2.5)
    assert list(wheel.sweep(2.7)) == [entry]


def test_in_order_and_after_a_long_pause() -> None:
    wheel: Wheel[Entry] = Wheel(0.0)
    entries = [Entry() for _ in range(5)]
    for number, entry in reversed(list(enumerate(entries))):
        wheel.set(entry, float(number * 100))
    assert list(wheel.sweep(1e6)) == entries
