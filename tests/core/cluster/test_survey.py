"""What nodes ask one another: of whom, until when, and when the answers are complete."""

from service.core.cluster.survey import ANSWER, MAX_QUESTIONS, NodeAnswer
from service.core.reply import Reply

from .test_cluster_messages import U1, Town


def test_all_others_are_asked_and_their_answers_come_in_the_order_of_names() -> None:
    town = Town("bca")
    town.nodes["b"].ask_all("name", b"\n1", Reply(town.done))
    assert town.got == [([NodeAnswer("a", b"a\n1"), NodeAnswer("c", b"c\n1")], True)]
    assert len(town.nodes["b"].survey) == 0


def test_alone_nothing_is_waited_for() -> None:
    town = Town("a")
    town.nodes["a"].ask_all("name", b"", Reply(town.done))
    town.nodes["a"].ask_holders(U1, "name", b"", Reply(town.done))
    town.nodes["a"].ask("a", "name", b"!", Reply(town.done))
    assert town.got == [([], True), ([], True), ([NodeAnswer("a", b"a!")], True)]


def test_only_holders_of_a_target_are_asked() -> None:
    town = Town("abcd")
    for name in "abd":
        town.planes[name].join([U1], None, Reply(lambda joined: None))
    town.nodes["a"].ask_holders(U1, "name", b"", Reply(town.done))
    assert town.got == [([NodeAnswer("b", b"b"), NodeAnswer("d", b"d")], True)]


def test_who_says_nothing_is_waited_for_until_the_timeout() -> None:
    town = Town("abc")
    town.inbound["b"].deaf = True
    town.nodes["a"].ask_all("name", b"", Reply(town.done), timeout=1.0)
    town.pass_time(0.9)
    assert not town.got
    town.pass_time(0.2)
    assert town.got == [([NodeAnswer("c", b"c")], False)]
    assert town.nodes["a"].survey.incomplete == 1
    # What comes afterwards finds nobody.
    for sender, kind, body in town.inbound["b"].kept:
        town.nodes["b"].on_message(sender, kind, body)
    town.pass_time(10)
    assert len(town.got) == 1


def test_a_node_that_goes_is_not_waited_for() -> None:
    town = Town("abc")
    town.inbound["b"].deaf = True
    town.nodes["a"].ask_all("name", b"", Reply(town.done))
    town.nodes["a"].ask("b", "name", b"", Reply(town.done))
    town.planes["b"].leave_world()
    assert town.got == [([NodeAnswer("c", b"c")], True), ([], True)]


def test_a_holder_that_goes_is_not_waited_for_where_nobody_is_left() -> None:
    town = Town("ab")
    town.planes["b"].join([U1], None, Reply(lambda joined: None))
    town.inbound["b"].deaf = True
    town.nodes["a"].ask_holders(U1, "name", b"", Reply(town.done))
    assert not town.got
    town.planes["b"].leave_world()
    assert town.got == [([], True)]


def test_an_answer_counts_once_and_from_a_node_that_went_too() -> None:
    town = Town("abc")
    town.planes["b"].join([U1], None, Reply(lambda joined: None))
    town.planes["c"].join([U1], None, Reply(lambda joined: None))
    town.inbound["c"].deaf = True
    town.nodes["a"].ask_holders(U1, "name", b"", Reply(town.done))
    [(_, _, body)] = town.inbound["c"].kept
    name = body.partition(b" ")[0]
    town.nodes["a"].on_message("b", ANSWER, name + b"\nagain")
    assert not town.got
    town.planes["b"].leave_world()
    town.nodes["a"].on_message("c", ANSWER, name + b"\nc")
    assert town.got == [([NodeAnswer("b", b"b"), NodeAnswer("c", b"c")], True)]


def test_questions_that_are_open_are_bounded() -> None:
    town = Town("ab")
    town.inbound["b"].deaf = True
    for _ in range(MAX_QUESTIONS):
        town.nodes["a"].ask_all("name", b"", Reply(town.done))
    assert not town.got
    town.nodes["a"].ask_all("name", b"", Reply(town.done))
    assert town.got == [([], False)]
    town.pass_time(2)
    assert town.got == [([], False)] * (MAX_QUESTIONS + 1)
    assert len(town.nodes["a"].survey) == 0


def test_cut_off_nothing_is_complete() -> None:
    town = Town("a")
    town.planes["a"].trouble = "Redis is out of reach"  # type: ignore[misc,assignment]
    town.nodes["a"].ask_all("name", b"", Reply(town.done))
    town.nodes["a"].ask_holders(U1, "name", b"", Reply(town.done))
    assert town.got == [([], False), ([], False)]


def test_at_the_end_of_a_node_nothing_is_left_open() -> None:
    town = Town("ab")
    town.inbound["b"].deaf = True
    town.nodes["a"].ask_all("name", b"", Reply(town.done))
    town.nodes["a"].ask("b", "name", b"", Reply(town.done))
    town.nodes["a"].survey.end()
    assert town.got == [([], False), ([], False)]
    assert len(town.nodes["a"].survey) == 0
