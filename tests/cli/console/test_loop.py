"""The loop: which command a line names, what becomes of its errors, and what may stand at the cursor."""

from typing import Any

import click
import pytest
import trio

from portico.client.errors import ClientError
from service.cli.console.loop import Command, Loop
from service.cli.console.terminal import Given
from service.cli.operation import ClientId, TargetText
from service.cli.outcomes import UNREACHABLE, WRONG
from service.cli.screen import Screen


@click.command(name="add", help="Add two numbers.")
@click.argument("a", type=int)
@click.argument("b", type=int, default=1)
@click.option("--twice", is_flag=True, help="Do it twice.")
@click.option("--json", "as_json", is_flag=True)
def add(**arguments: Any) -> None:
    """Nothing is run."""


@click.command(name="tell", help="Tell somebody.")
@click.argument("target", type=TargetText())
@click.argument("client_id", type=ClientId(), required=False)
@click.argument("filters", nargs=-1)
def tell(**arguments: Any) -> None:
    """Nothing is run."""


class Scene:
    """A loop of two commands, and what it has written."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.screen = Screen(write=lambda text: self.said.append(text.rstrip("\n")))
        self.raises: Exception | None = None
        commands = {"add": Command(add, self.work), "tell": Command(tell, self.work)}
        self.loop = Loop(self.screen, commands, {"plus": "add"})

    async def work(self, screen: Screen, **arguments: Any) -> int:
        await trio.lowlevel.checkpoint()
        if self.raises is not None:
            raise self.raises
        screen.answer(arguments, f"{arguments.get('a')}+{arguments.get('b')}")
        return 4

    async def run(self, *lines: str) -> int:
        return await self.loop.run(Given(lines))

    def candidates(self, before: str) -> list[str]:
        ids = {"client_id": ["c 1", "d\x1b"], "user_id": ["u1"], "": ["user_id", "role"]}
        return [text for text, _ in self.loop.candidates(before, lambda kind: ids.get(kind, ()))]


async def test_the_first_failure_is_the_result_and_the_rest_is_run() -> None:
    at = Scene()
    assert await at.run("", "  # a comment", "plus 1 2", "add x", 'add "', "exit", "add 9") == 4
    assert at.said[0] == "1+2"
    assert at.said[1].endswith("(help add)")
    assert "quote" in at.said[2]
    assert len(at.said) == 3
    assert await Scene().run() == 0


async def test_json_is_for_the_one_command() -> None:
    at = Scene()
    await at.run("add 1 --json", "add 1")
    assert at.said == ['{"a":1,"b":1,"twice":false}', "1+1"]


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (ClientError("Nobody is there."), UNREACHABLE, "Nobody is there."),
        (ValueError("no\x1bpe"), WRONG, r"no\x1bpe"),
        (click.UsageError("Not so."), WRONG, "Not so."),
    ],
)
async def test_what_a_command_raises_on_purpose_is_a_sentence(error: Exception, code: int, said: str) -> None:
    at = Scene()
    at.raises = error
    assert (await at.run("add 1"), at.said) == (code, [said])


async def test_what_is_no_command_is_told_the_nearest() -> None:
    at = Scene()
    assert await at.run("ad", "zzz\x1b") == WRONG
    assert at.said[0] == "There is no command 'ad': did you mean add?"
    assert at.said[1].endswith("help lists what there is.")
    assert at.said[1].isprintable()


async def test_help() -> None:
    at = Scene()
    assert await at.run("help", "help plus") == 0
    assert [line.split()[0] for line in at.said[0].splitlines()[-4:]] == ["plus", "tell", "help", "quit"]
    assert "--twice" in at.said[1]
    assert await at.run("help nosuch") == WRONG


@pytest.mark.parametrize(
    ("before", "found"),
    [
        ("", ["plus", "tell", "help", "quit"]),
        ("te", ["tell"]),
        ("help ", ["plus", "tell"]),
        ("add --t", ["--twice"]),
        ("add 1 2 ", []),
        ("nosuch ", []),
        ("tell u", ["user:"]),
        ("tell user:", ["user:u1"]),
        ("tell all c", ["c 1"]),  # the other can't be shown as it is
        ("tell all c1 r", ["role="]),
        ("tell all c1 user_id=", ["user_id=u1"]),
    ],
)
def test_what_may_stand_at_the_cursor(before: str, found: list[str]) -> None:
    assert Scene().candidates(before) == found
