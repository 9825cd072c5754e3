"""One function is a command of the shell's and a line of the console's, with the same words."""

from typing import Any

import click
import pytest

from portico.publisher.calls import Target
from service.cli.operation import Asked, ClientId, JsonText, TargetText, UserId, operation
from tests.cli.desk import Desk, parsed


@operation("shout")
@click.argument("text")
@click.option("--times", type=int, default=1)
async def shout(asked: Asked, text: str, times: int) -> int:
    """Say it."""
    asked.screen.say(text.upper() * times)
    return 7


async def test_both_commands_have_its_arguments_and_its_help() -> None:
    assert parsed(shout.line, "a", "--times", "2") == {"text": "a", "times": 2, "as_json": False}
    script = parsed(shout.script, "a", "--api-key", "k", "--json")
    assert {name: script[name] for name in ("text", "times", "as_json", "api_key")} == {
        "text": "a", "times": 1, "as_json": True, "api_key": "k",
    }  # fmt: skip
    assert shout.line.help == shout.script.help == "Say it."
    desk = Desk()
    assert await desk.run(shout, "a", "--times", "2") == 7
    assert desk.said == ["AA"]


@pytest.mark.parametrize(
    ("text", "target"),
    [("all", Target(all=True)), ("user:u:1", Target(user_id="u:1")), ("channel:c", Target(channel_id="c"))],
)
def test_targets(text: str, target: Target) -> None:
    assert TargetText().convert(text, None, None) == target


@pytest.mark.parametrize("text", ["", "u1", "user:", ":u1", "tenant:t", "all:x", "us\x1ber:u1"])
def test_what_is_no_target_is_told_what_one_is(text: str) -> None:
    with pytest.raises(click.BadParameter, match="give all, or one of user:ID, client:ID") as wrong:
        TargetText().convert(text, None, None)
    assert wrong.value.message.isprintable()


@pytest.mark.parametrize(("text", "value"), [("3", 3), ('{"a": [1]}', {"a": [1]}), ("null", None)])
def test_json_is_read(text: str, value: Any) -> None:
    assert JsonText().convert(text, None, None) == value


@pytest.mark.parametrize("text", ["", "{", "a", "NaN", "[" * 100_000, "\udc80"])
def test_what_is_no_json_is_told_so(text: str) -> None:
    with pytest.raises(click.BadParameter, match="must be JSON"):
        JsonText().convert(text, None, None)


def test_a_text_without_its_quotes_is_told_how_to_write_it() -> None:
    with pytest.raises(click.BadParameter, match=r'such as \{"items": 3\}, or \'"a text"\' with both pairs of quotes'):
        JsonText().convert("hello", None, None)


def test_what_has_to_be_an_object_and_ids() -> None:
    assert JsonText(needs_object=True).convert("{}", None, None) == {}
    with pytest.raises(click.BadParameter, match="JSON object"):
        JsonText(needs_object=True).convert("[]", None, None)
    for kind in (ClientId(), UserId()):
        assert kind.convert("x", None, None) == "x"
        with pytest.raises(click.BadParameter, match="empty"):
            kind.convert("", None, None)
