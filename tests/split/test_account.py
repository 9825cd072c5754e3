"""The account itself: what it finds, and what it takes for an excuse."""

from collections import Counter
from types import SimpleNamespace
from typing import Any

from . import errands
from .account import draw_up


def publisher(*accepted: int) -> Any:
    # An event's number is the second in which it was sent, too.
    began = {n: float(n) for n in accepted}
    return SimpleNamespace(accepted={"u": list(accepted)}, refused=0, tried_again={2}, began=began)


def client(*events: int, told: tuple[tuple[int, float], ...] = (), offsets: tuple[int, ...] = ()) -> Any:
    got = [(offset, event, 0) for offset, event in zip(offsets or events, events, strict=True)]
    return SimpleNamespace(user="u", stream="user:u", got=got, told=list(told), codes=[], registered_at=[2.5])


def test_all_of_it_once_and_in_order_is_clean() -> None:
    assert draw_up([client(1, 2, 3)], [publisher(1, 2, 3)]).clean


def test_what_was_sent_before_the_client_registered_is_replayed() -> None:
    assert draw_up([client(1, 2, 3)], [publisher(1, 2, 3)]).replayed == 2


def test_what_is_missing_is_lost() -> None:
    for events in ((1, 3), (1, 2), (2, 3), ()):
        assert draw_up([client(*events)], [publisher(1, 2, 3)]).lost == 3 - len(events)


def test_what_came_twice_is_doubled() -> None:
    account = draw_up([client(1, 2, 2, offsets=(1, 2, 3))], [publisher(1, 2)])
    assert (account.doubled, account.disordered) == (1, 0)


def test_what_was_tried_again_may_come_twice_only_where_redis_forgot_the_first() -> None:
    second, third = client(1, 2, 2, offsets=(1, 2, 3)), client(1, 2, 3, 3, offsets=(1, 2, 3, 4))
    assert draw_up([second], [publisher(1, 2)]).doubled == 1
    excused = draw_up([second], [publisher(1, 2)], forgotten=True)
    assert (excused.doubled, excused.forgotten) == (0, 1)
    assert draw_up([third], [publisher(1, 2, 3)], forgotten=True).doubled == 1


def test_what_came_before_something_older_is_out_of_order() -> None:
    assert draw_up([client(2, 1)], [publisher(1, 2)]).disordered == 1


def test_being_told_excuses_a_loss_at_that_place_only() -> None:
    assert draw_up([client(1, 4, told=((1, 9.0),))], [publisher(1, 2, 3, 4)]).clean
    assert draw_up([client(1, 3, told=((1, 9.0),))], [publisher(1, 2, 3, 4)]).lost == 1
    assert draw_up([client(1, 4, told=((2, 9.0),))], [publisher(1, 2, 3, 4)]).lost == 2


def test_being_told_excuses_no_loss_that_comes_later() -> None:
    assert draw_up([client(1, 4, told=((1, 3.5),))], [publisher(1, 2, 3, 4)]).clean
    assert draw_up([client(1, 4, told=((1, 2.5),))], [publisher(1, 2, 3, 4)]).lost == 1
    assert draw_up([client(1, 4, told=((1, 1.5), (1, 2.5)))], [publisher(1, 2, 3, 4)]).lost == 1


def requester(**answers: list[dict[str, Any]]) -> Any:
    by_number = {int(name[1:]): said for name, said in answers.items()}
    return SimpleNamespace(
        asked_at=dict.fromkeys(by_number, 0.0),
        answers={number: said for number, said in by_number.items() if said},
        moments=dict.fromkeys(by_number, 1.0),
    )


def test_requests_are_answered_once_and_rightly() -> None:
    right = {"success": True, "data": 1, "error": None}
    lost = {"success": False, "data": None, "error": "Worker lost"}
    cases = {
        "clean": requester(n1=[right], n10=[lost]),
        "failed": requester(n1=[lost]),
        "unanswered": requester(n1=[]),
        "wrong": requester(n1=[right, right]),
    }
    for name, one in cases.items():
        account = errands.draw_up(one, [], Counter())
        found = {field for field in ("failed", "unanswered", "wrong", "repeated") if getattr(account, field)}
        assert found == ({name} - {"clean"})
        assert account.clean == (name == "clean")
    assert errands.draw_up(requester(n10=[lost]), [], Counter({10: 2})).repeated == 1
