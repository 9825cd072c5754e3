"""The scenarios' files: that they can be read, and that they say what they need."""

import re
from typing import Any

import pytest

from compat.choice import NoScenarioError, chosen
from compat.script import FOLDER, WrittenWrongError, parse, read

ALL = read()
HEAD = "title: it\nprotocol: pushes\n"


def test_names_are_unique_and_can_be_typed() -> None:
    names = [row.name for row in ALL]
    assert len(set(names)) == len(names) >= 85
    assert all(name.replace("-", "").isalnum() and name.islower() for name in names)
    assert len(names) == len(list(FOLDER.iterdir()))


def names_in(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [name for pair in value.items() for part in pair for name in names_in(part)]
    if isinstance(value, list):
        return [name for part in value for name in names_in(part)]
    return re.findall(r"\$\{?(\w+)", value) if isinstance(value, str) else []


@pytest.mark.parametrize("row", ALL, ids=lambda row: row.name)
def test_every_name_that_is_expected_is_known_or_used_again(row: Any) -> None:
    """A name with a slip of the pen would fit anything: it has to stand somewhere else as well."""
    given = {
        "idle",
        "base",
        "host",
        "http_port",
        "ws_scheme",
        "handshake_key",
        "worker_token",
        "token_expires",
        "m",
        "n",
    }
    used = [name for step in row.steps for part in (step.value, *step.words) for name in names_in(part)]
    for step in row.steps:
        if step.verb in ("gets", "gets-text", "gaps", "found", "answers"):
            for name in names_in(step.value):
                assert used.count(name) > 1 or name in given, f"${name} in line {step.line} stands nowhere else"


@pytest.mark.parametrize("row", ALL, ids=lambda row: row.name)
def test_what_a_scenario_uses_it_says_that_it_needs(row: Any) -> None:
    uses = set()
    for step in row.steps:
        value = step.value if isinstance(step.value, dict) else {}
        if (step.who.startswith("api") and step.verb == "asks") or step.verb == "settles":
            uses.add("api")
        if step.verb == "connects" and "headers" in value:
            uses.add("headers")
        if step.verb == "connects" and "protocols" in value:
            uses.add("subprotocols")
        if step.verb == "sends-binary":
            uses.add("binary")
        if value.get("type") == "connect" and value["data"].get("role") == "worker" and "token" in value["data"]:
            uses.add("workers")
        if value.get("target") == {"all": True} or step.words[:1] in (("@workers",), ("@older",)):
            uses.add("invasive")
    assert uses <= row.needs


def test_counted_lines_lines_for_two_and_lines_that_go_on() -> None:
    row = parse("it", HEAD + '# a comment\n\n2..1 a,b gets {"n":\n   %i} @ c closes\n')
    assert [(step.who, step.verb, step.value) for step in row.steps] == [
        ("a", "gets", {"n": 2}), ("b", "gets", {"n": 2}), ("c", "closes", None),
        ("a", "gets", {"n": 1}), ("b", "gets", {"n": 1}), ("c", "closes", None),
    ]  # fmt: skip


def test_words_stand_before_the_json() -> None:
    (step,) = parse("it", HEAD + 'api asks POST /api/x/$id {"a": [1, null]}\n').steps
    assert (step.words, step.value) == (("POST", "/api/x/$id"), {"a": [1, None]})
    assert str(step) == 'api asks POST /api/x/$id {"a": [1, null]}'


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("title: it\na closes", "lacks"),
        (HEAD, "lacks"),
        (HEAD + "needs: luck\na closes", "luck"),
        (HEAD + "a dances", "line 3: no step"),
        (HEAD + 'a sends {"a": }', "line 3"),
    ],
)
def test_what_is_written_wrong_is_told(text: str, why: str) -> None:
    with pytest.raises(WrittenWrongError, match=why):
        parse("it", text)


def test_all_are_chosen_where_none_is_named() -> None:
    assert chosen(ALL, [], []) == ALL


def test_only_and_skip_choose_in_the_lists_order() -> None:
    assert [row.name for row in chosen(ALL, ["kick", "register", "heartbeat"], ["heartbeat"])] == ["register", "kick"]


def test_a_name_that_is_not_there_is_refused() -> None:
    with pytest.raises(NoScenarioError, match="no scenario 'kcik'"):
        chosen(ALL, ["kcik"], [])
    with pytest.raises(NoScenarioError, match="no scenario 'kcik'"):
        chosen(ALL, [], ["kcik"])


def test_an_empty_choice_is_refused() -> None:
    with pytest.raises(NoScenarioError, match="Nothing is left"):
        chosen(ALL, ["kick"], ["kick"])
