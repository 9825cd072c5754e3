"""Screen: where a command's answers go, as tables for people or as JSON for programs.

Promises that nothing that came from outside (client ids, names, the data of events) reaches a terminal raw: control
characters and marks that change the direction of text are escaped, in tables and in JSON alike. Knows nothing of
gateways. Imports rich only when a table is drawn.
"""

import shutil
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Final

import click
import msgspec

from portico.wire.safe_text import safe_text

LONGEST_CELL: Final = 256
UNBOUNDED: Final = 100_000
"""Columns of a table that goes into a file or a pipe, where no line is broken."""


def json_text(value: object) -> str:
    """JSON on one line, safe in a terminal: what can't be printed becomes an escape of JSON's own."""
    text = msgspec.json.encode(value).decode()
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else _escaped(char) for char in text)


def _escaped(char: str) -> str:
    # Only in strings can there be any: the rest of JSON is ASCII. Beyond the first plane it takes two escapes.
    units = char.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2))


def cell(value: object) -> str:
    """A value as a cell of a table."""
    if value is None:
        return ""
    if isinstance(value, str):
        return safe_text(value, LONGEST_CELL)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    return str(value) if isinstance(value, int) else safe_text(json_text(value), LONGEST_CELL)


def moment(seconds: object) -> str:
    """Seconds since the epoch as a local time."""
    try:
        return datetime.fromtimestamp(float(str(seconds))).strftime("%Y-%m-%d %H:%M:%S")
    except (ValueError, OverflowError, OSError):
        return cell(seconds)


class Screen:
    """Writes what a command answers. `as_json`: for programs; `write`: where text goes (None: standard output)."""

    def __init__(self, *, as_json: bool = False, write: Callable[[str], None] | None = None) -> None:
        self.as_json = as_json
        self._write = write
        self._usual = write

    def for_programs(self) -> "Screen":
        """The same place, with JSON."""
        return Screen(as_json=True, write=self._write)

    def borrow(self, write: Callable[[str], None] | None) -> None:
        """Have text go through `write` for a while: what draws on the terminal knows where there is room for it. None
        ends that."""
        self._write = self._usual if write is None else write

    def say(self, text: str) -> None:
        """Text of our own, or text that is safe already."""
        if self._write is None:
            click.echo(text)
        else:
            self._write(text + "\n")

    def complain(self, text: str) -> None:
        """A line for people that is no answer: what went wrong, or what happens meanwhile."""
        if self._write is None:
            click.echo(text, err=True)
        else:
            self._write(text + "\n")

    def answer(self, value: object, text: str) -> None:
        """One answer: `value` for programs, `text` for people."""
        self.say(json_text(value) if self.as_json else text)

    def rows(self, values: Sequence[Mapping[str, object]], columns: Mapping[str, str], nothing: str) -> None:
        """Many answers: a line of JSON each, or a table of `columns` (heading → key). `nothing`: said where none is."""
        if self.as_json:
            for value in values:
                self.say(json_text(value))
        elif values:
            self.say(table(columns, ([cell(value.get(key)) for key in columns.values()] for value in values)))
        else:
            self.say(nothing)


def on_terminal() -> bool:
    """Whether answers go to a terminal."""
    return sys.__stdout__ is not None and sys.__stdout__.isatty()


def table(columns: Iterable[str], rows: Iterable[Sequence[str]], *, width: int | None = None) -> str:
    """A table as text. The cells are safe already, and nothing in them is taken for markup."""
    from io import StringIO

    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    drawn = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="bold")
    for name in columns:
        drawn.add_column(Text(name), overflow="fold")
    for row in rows:
        drawn.add_row(*map(Text, row))
    terminal = on_terminal()
    if width is None:
        width = shutil.get_terminal_size().columns if terminal else UNBOUNDED
    console = Console(file=StringIO(), force_terminal=terminal, width=width, emoji=False, highlight=False)
    with console.capture() as captured:
        console.print(drawn)
    return "\n".join(line.rstrip() for line in captured.get().rstrip("\n").splitlines())
