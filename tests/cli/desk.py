"""An operator's desk without a gateway: what a command asks by HTTP, what the test answers, what is written."""

import json
from collections.abc import Callable
from typing import Any, Final

import click
import httpx

from service.cli.api import Api
from service.cli.operation import Asked, Operation
from service.cli.screen import Screen

Answer = Callable[[httpx.Request], httpx.Response]


def error(status: int, code: str, message: str) -> httpx.Response:
    """An error answer of the HTTP API."""
    return httpx.Response(status, json={"error": {"code": code, "message": message}})


class Desk:
    """`answer` gives each answer, or is the answer to everything. `asked` are the requests, `said` what was written."""

    def __init__(self, answer: Answer | dict[str, Any] | None = None, *, as_json: bool = False) -> None:
        self.asked: Final[list[httpx.Request]] = []
        self.said: Final[list[str]] = []
        self._answer = answer
        self.api: Final = Api("http://gateway.example")
        # In place of sockets. The library has no public way to give a client its transport later.
        self.api.http._transport = httpx.MockTransport(self._handle)
        self.screen: Final = Screen(as_json=as_json, write=lambda text: self.said.append(text.rstrip("\n")))

    def _handle(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        if callable(self._answer):
            return self._answer(request)
        return httpx.Response(200, json=self._answer)

    @property
    def bodies(self) -> list[Any]:
        """What was sent, as JSON."""
        return [json.loads(request.content) for request in self.asked]

    async def run(self, operation: Operation, *words: str) -> int:
        """One operation with these words, as a line of a console's. Returns its exit code."""
        with operation.line.make_context(operation.name, list(words)) as context:
            arguments = {name: value for name, value in context.params.items() if name != "as_json"}
        return await operation.work(Asked(self.api, self.screen), **arguments)


def parsed(command: click.Command, *words: str) -> dict[str, Any]:
    """What a command makes of its words. Raises click's exceptions."""
    with command.make_context("command", list(words)) as context:
        return dict(context.params)
