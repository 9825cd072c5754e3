"""The command `portico console`, and what its prompt and that of `portico serve --console` have in common."""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Final

import click

from portico.client.errors import ClientError

from ..addressing import api_key_option, default_base_url, http_address_options, key_of, trusted
from ..api import Api
from ..operation import Asked, Operation
from ..outcomes import explain, run
from ..people import clients, kick, status, workers
from ..pushing import broadcast, login, logins, logout, push, request, send
from ..screen import Screen, cell
from ..tail import tail
from .ids import Ids
from .loop import Command, Loop
from .terminal import open_lines

OPERATIONS: Final[tuple[Operation, ...]] = (
    clients, workers, send, push, broadcast, kick, tail, request, login, logins, logout, status,
)  # fmt: skip
ALIASES: Final[Mapping[str, str]] = {"list": "clients", "stats": "status"}


@click.command()
@http_address_options
@api_key_option
@click.option("-c", "--command", "lines", multiple=True, metavar="LINE",
              help="Run this line, and end; may be given several times.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Answer in JSON, a line for each answer.")
def console(
    base_url: str | None, ca_file: str | None, api_key: str | None, lines: tuple[str, ...], as_json: bool
) -> None:
    """Commands to a running gateway, line by line: who is connected, push, send, kick, and more.

    \b
    portico console --base-url http://localhost:8000
    portico console -c list -c 'push user:u1 greeting {"text": "hi"}'
    portico console < commands.txt

    At a prompt, Tab completes commands and the ids that are connected, and Ctrl-C stops what is running.
    From a pipe or with -c, every line is run, and the exit code is that of the first that failed. Lines that
    begin with # are comments.

    Exit code 0 for success, 1 for an error answer, 2 for something wrong in a line, 3 if the gateway cannot
    be reached or refuses us.
    """
    ssl_context = trusted(ca_file)
    key = key_of(api_key)

    async def program() -> int:
        async with Api(base_url or default_base_url(), api_key=key, ssl_context=ssl_context) as api:
            return await converse(api, as_json=as_json, lines=lines or None)

    run(program)


async def converse(
    api: Api,
    *,
    as_json: bool = False,
    lines: Iterable[str] | None = None,
    before: Callable[[Screen], Awaitable[None]] | None = None,
) -> int:
    """A console to one gateway, until its lines end. Returns an exit code. `before`: what is done before the first."""
    ids = Ids(api)
    loop: Loop

    def candidates(before: str) -> Iterable[tuple[str, str]]:
        return loop.candidates(before, ids.known)

    async with open_lines("portico> ", candidates, "console_history", lines=lines) as (read, write):
        screen = Screen(as_json=as_json, write=write)
        commands = {one.name: Command(one.line, _bound(one, api, ids, read.interactive)) for one in OPERATIONS}
        loop = Loop(screen, commands, ALIASES)
        if before is not None:
            await before(screen)
        if read.interactive:
            await _greet(api, screen)
        return await loop.run(read)


def _bound(one: Operation, api: Api, ids: Ids, interactive: bool) -> Callable[..., Awaitable[int]]:
    async def work(screen: Screen, **arguments: Any) -> int:
        try:
            return await one.work(Asked(api, screen, interactive), **arguments)
        finally:
            ids.forget()

    return work


async def _greet(api: Api, screen: Screen) -> None:
    screen.say(f"Portico's console at {api.base_url}: help lists the commands, quit or Ctrl-D ends it.")
    try:
        found = await api.status()
    except ClientError as error:
        screen.complain(explain(error)[1])
    else:
        screen.say(f"{_counted(found.get('total'), 'connection')}, {_counted(found.get('workers'), 'worker')}.")


def _counted(number: object, thing: str) -> str:
    return f"{cell(number)} {thing}{'' if number == 1 else 's'}"
