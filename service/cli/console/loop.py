"""Loop: reads lines, runs the command that each one names, and says what came of it.

Knows commands by name and nothing of what they do. What a command raises on purpose is a sentence, and the loop goes
on; Ctrl-C stops the command that runs, at a prompt, and the whole program otherwise. In a script the loop's result is
that of the first line that failed.
"""

import difflib
import signal
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import click
import trio

from portico.client.errors import ClientError
from portico.wire.safe_text import safe_text

from ..operation import KINDS, ClientId, TargetText, UserId
from ..outcomes import API_KEY, INTERRUPTED, TERMINATED, WRONG, explain
from ..screen import Screen, table
from .lines import BadLine, Typed, split, typed
from .terminal import Lines

QUIT: Final = frozenset({"quit", "exit"})
BUILT_IN: Final = {"help": "What there is; help COMMAND says more.", "quit": "End (so does Ctrl-D)."}


@dataclass(frozen=True, slots=True)
class Command:
    """One command. `form` says how its arguments are read; `work(screen, **arguments)` returns an exit code."""

    form: click.Command
    work: Callable[..., Awaitable[int]]

    @property
    def summary(self) -> str:
        """Its purpose in a line."""
        return self.form.get_short_help_str(100)


class Loop:
    """Runs `commands` (name → Command). `aliases`: other names of theirs; `secret`: as for `outcomes.explain`."""

    def __init__(
        self, screen: Screen, commands: Mapping[str, Command], aliases: Mapping[str, str], secret: str = API_KEY
    ) -> None:
        self._screen = screen
        self._commands = commands
        self._aliases = aliases
        self._secret = secret

    async def run(self, lines: Lines) -> int:
        """Until the lines end or one says `quit`. Returns an exit code."""
        if not lines.interactive:
            return await self._run_lines(lines)
        code = TERMINATED
        # At a prompt the terminal is in another state, which has to be undone whatever ends us.
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_cancel_on, nursery.cancel_scope, signal.SIGTERM, signal.SIGHUP)
            await self._run_lines(lines)
            code = 0
            nursery.cancel_scope.cancel()
        return code

    async def _run_lines(self, lines: Lines) -> int:
        result = 0
        while (line := await lines.read()) is not None:
            if not line.strip() or line.lstrip().startswith("#"):
                continue
            try:
                words = split(line)
            except BadLine as bad:
                self._screen.complain(str(bad))
                result = result or WRONG
                continue
            if words[0] in QUIT:
                break
            code = await self._run_words(words, interactive=lines.interactive)
            result = result or code
        return result

    async def _run_words(self, words: list[str], *, interactive: bool) -> int:
        if words[0] == "help":
            return self._help(words[1:])
        name = self._aliases.get(words[0], words[0])
        command = self._commands.get(name)
        if command is None:
            return self._unknown(words[0])
        try:
            with command.form.make_context(name, words[1:]) as context:
                arguments = dict(context.params)
        except click.exceptions.Exit:
            return 0
        except click.ClickException as wrong:
            self._screen.complain(f"{wrong.format_message()} (help {name})")
            return WRONG
        screen = self._screen.for_programs() if arguments.pop("as_json", False) else self._screen
        return await self._run_command(command, screen, arguments, interactive=interactive)

    async def _run_command(
        self, command: Command, screen: Screen, arguments: dict[str, Any], *, interactive: bool
    ) -> int:
        code = INTERRUPTED
        try:
            if not interactive:
                return await command.work(screen, **arguments)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_cancel_on, nursery.cancel_scope, signal.SIGINT)
                code = await command.work(screen, **arguments)
                nursery.cancel_scope.cancel()
        except* click.ClickException as group:
            code = WRONG
            self._screen.complain(_first(group).format_message())
        except* (ClientError, ValueError) as group:
            code, said = self._explained(_first(group))
            self._screen.complain(said)
        return code

    def _explained(self, error: Exception) -> tuple[int, str]:
        if isinstance(error, ClientError):
            return explain(error, self._secret)
        return WRONG, safe_text(str(error))

    def _unknown(self, word: str) -> int:
        known = [*self._commands, *self._aliases, *BUILT_IN]
        near = difflib.get_close_matches(word, known, n=1)
        meant = f" did you mean {near[0]}?" if near else " help lists what there is."
        self._screen.complain(f"There is no command {safe_text(word)!r}:{meant}")
        return WRONG

    def _help(self, words: list[str]) -> int:
        if words:
            name = self._aliases.get(words[0], words[0])
            command = self._commands.get(name)
            if command is None:
                return self._unknown(words[0])
            with click.Context(command.form, info_name=name) as context:
                self._screen.say(command.form.get_help(context))
            return 0
        rows = [[name, command.summary] for name, command in self._listed()]
        rows += [[name, summary] for name, summary in BUILT_IN.items()]
        self._screen.say(table(("COMMAND", ""), rows))
        return 0

    def _listed(self) -> list[tuple[str, Command]]:
        """Each command under the name that this console prefers: its alias, where it has one."""
        preferred = {name: alias for alias, name in self._aliases.items()}
        return [(preferred.get(name, name), command) for name, command in self._commands.items()]

    def candidates(self, before: str, ids: Callable[[str], Iterable[str]]) -> list[tuple[str, str]]:
        """What may stand at the cursor, with its meaning. `ids`: those that are known, of a kind (`client_id`, …)."""
        line = typed(before)
        if not line.before:
            names = [(name, command.summary) for name, command in self._listed()]
            return _starting(line.word, [*names, *BUILT_IN.items()])
        if line.before[0] == "help" and len(line.before) == 1:
            return _starting(line.word, [(name, command.summary) for name, command in self._listed()])
        command = self._commands.get(self._aliases.get(line.before[0], line.before[0]))
        return [] if command is None else _arguments(command.form, line, ids)


def _arguments(form: click.Command, line: Typed, ids: Callable[[str], Iterable[str]]) -> list[tuple[str, str]]:
    if line.word.startswith("-"):
        options = [param for param in form.params if isinstance(param, click.Option)]
        return _starting(line.word, [(max(one.opts, key=len), one.help or "") for one in options])
    places = [param for param in form.params if isinstance(param, click.Argument)]
    taken = sum(1 for word in line.before[1:] if not word.startswith("-"))
    place = places[min(taken, len(places) - 1)] if places else None
    if place is None or (taken >= len(places) and place.nargs != -1):
        return []
    if isinstance(place.type, TargetText):
        return _starting(line.word, _targets(line.word, ids))
    if isinstance(place.type, UserId):
        return _starting(line.word, [(one, "") for one in ids("user_id")])
    if isinstance(place.type, ClientId):
        return _starting(line.word, [(one, "") for one in ids("client_id")])
    if place.name == "filters":
        name, sign, _ = line.word.partition("=")
        values = [(f"{name}={one}", "") for one in ids(name)] if sign else []
        return _starting(line.word, values or [(f"{one}=", "") for one in ids("")])
    return []


def _targets(word: str, ids: Callable[[str], Iterable[str]]) -> list[tuple[str, str]]:
    kind, colon, _ = word.partition(":")
    if colon:
        return [(f"{kind}:{one}", "") for one in ids(f"{kind}_id")]
    return [("all", "everybody"), *((f"{one}:", f"by {one}_id") for one in KINDS)]


def _starting(word: str, found: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    # An id that can't be shown as it is can't be chosen by looking at it either.
    return [(text, meaning) for text, meaning in found if text.startswith(word) and text.isprintable()]


def _first(group: BaseExceptionGroup[Any]) -> Any:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


async def _cancel_on(scope: trio.CancelScope, *numbers: signal.Signals) -> None:
    with trio.open_signal_receiver(*numbers) as signals:
        async for _ in signals:
            break
    scope.cancel()
