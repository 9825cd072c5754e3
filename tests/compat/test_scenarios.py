import pytest

from compat.scenarios import ALL, NoScenarioError, chosen


def test_names_are_unique_and_can_be_typed() -> None:
    names = [row.name for row in ALL]
    assert len(set(names)) == len(names)
    assert all(name.replace("-", "").isalnum() and name.islower() for name in names)


def test_all_are_chosen_where_none_is_named() -> None:
    assert chosen([], []) == list(ALL)


def test_only_and_skip_choose_in_the_lists_order() -> None:
    assert [row.name for row in chosen(["kick", "register", "heartbeat"], ["heartbeat"])] == ["register", "kick"]


def test_a_name_that_is_not_there_is_refused() -> None:
    with pytest.raises(NoScenarioError, match="no scenario 'kcik'"):
        chosen(["kcik"], [])
    with pytest.raises(NoScenarioError, match="no scenario 'kcik'"):
        chosen([], ["kcik"])


def test_an_empty_choice_is_refused() -> None:
    with pytest.raises(NoScenarioError, match="Nothing is left"):
        chosen(["kick"], ["kick"])
