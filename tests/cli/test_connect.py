"""`portico connect` without a gateway: its commands, and what is shown of what comes in."""

import json
from typing import Any

import pytest
import trio

from portico.client.envelope import Call
from portico.client.errors import RequestFailed, SentAway
from portico.client.events import Connected, Connecting, Event, Lost
from service.cli import connect as module
from service.cli.console.loop import Loop
from service.cli.console.terminal import Given
from service.cli.outcomes import FAILED, WRONG
from service.cli.screen import Screen


class Client:
    """What the commands need of an EnvelopeClient; it answers by what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, Any, float]] = []
        self.answers: list[tuple[Any, str | None]] = []
        self.questions = [Call("r1", "q1", "con\x1bfirm", None)]
        self.ended = trio.Event()

    async def request(self, action: str, params: Any, *, timeout: float) -> Any:
        await trio.lowlevel.checkpoint()
        self.asked.append((action, params, timeout))
        if action == "fail":
            raise RequestFailed("no worker")
        return {"of": action}

    async def answer(self, result: Any = None, *, error: str | None = None) -> Call | None:
        await trio.lowlevel.checkpoint()
        self.answers.append((result, error))
        return self.questions.pop() if self.questions else None


async def run(client: Client, *lines: str, as_json: bool = False) -> tuple[int, list[str]]:
    said: list[str] = []
    screen = Screen(as_json=as_json, write=lambda text: said.append(text.rstrip("\n")))
    loop = Loop(screen, module._commands(client), {})  # type: ignore[arg-type]  # all that is needed of one
    return await module._until_ended(loop, Given(lines), client), said  # type: ignore[arg-type]  # the same


async def test_lines_ask_and_answer() -> None:
    client = Client()
    code, said = await run(client, 'request add {"a": 1} --timeout 5', "refuse not now", "answer 3", "request fail")
    assert client.asked == [("add", {"a": 1}, 5.0), ("fail", None, 30.0)]
    assert client.answers == [(None, "not now"), (3, None)]
    assert said == ['{"of":"add"}', r"answered con\x1bfirm", "nobody has asked anything", "error: no worker"]
    assert code == FAILED
    code, said = await run(Client(), "request fail", as_json=True)
    assert json.loads(said[0]) == {"success": False, "error": "no worker"}
    assert (await run(Client(), "request add {", "answer 1"))[0] == WRONG, "the first that failed"


async def test_a_client_that_is_sent_away_ends_the_lines() -> None:
    client = Client()
    client.ended.set()

    class Nobody:
        interactive = False

        async def read(self) -> str | None:
            await trio.sleep_forever()

    assert await module._until_ended(Loop(Screen(), {}, {}), Nobody(), client) == -1  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("envelope", "shown"),
    [
        (
            {"type": "notification", "data": {"event": "no\x1bte", "payload": {"a": "\u202e"}}},
            r'no\x1bte  {"a":"\u202e"}',
        ),
        ({"type": "notification", "data": {"title": "Hello", "payload": None}}, "Hello  null"),
        (
            {"type": "request", "data": {"action": "ring", "params": [1]}},
            "asked: ring  [1]  (answer JSON, or refuse TEXT)",
        ),
        ({"type": "error", "data": {"error": "bad"}}, 'error  {"error":"bad"}'),
    ],
)
def test_what_comes_in_is_a_safe_line(envelope: dict[str, Any], shown: str) -> None:
    said: list[str] = []
    module._show(Screen(write=said.append), envelope)
    assert said == [shown + "\n"]
    said.clear()
    module._show(Screen(as_json=True, write=said.append), envelope)
    assert json.loads(said[0]) == envelope


def test_in_a_script_the_usual_is_not_worth_a_line() -> None:
    said: list[str] = []
    screen = Screen(write=said.append)
    events: list[Event] = [Connecting("a", 1), Connected("a", "c1"), Lost(SentAway(1012, "")), Connecting("a", 2)]
    for event in events:
        module._tell(screen, event, False)
    assert said == [f"{event}\n" for event in events[2:]]
    said.clear()
    for event in events:
        module._tell(screen, event, True)
    assert len(said) == 4
