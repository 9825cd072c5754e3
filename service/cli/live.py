"""A table of who is connected that keeps itself up to date, on a terminal, until Ctrl-C or Enter."""

import os
import shutil
import signal
import sys
from typing import Final

import click
import trio
from rich.console import Console
from rich.live import Live
from rich.text import Text

from .client_rows import CLIENT_COLUMNS, Wanted, shown_client, some_clients
from .operation import Asked
from .outcomes import explain
from .screen import cell, on_terminal, table

INTERVAL: Final = 1.0
"""Seconds between two looks."""


async def show_live(asked: Asked, wanted: Wanted, limit: int) -> int:
    """Draw, and draw anew every second. Raises click.UsageError where there is no terminal to draw on."""
    if asked.screen.as_json or not on_terminal() or not sys.stdin.isatty():
        raise click.UsageError("--live draws on a terminal: leave it out, or leave out --json.")
    # Not sys.stdout, which a console's prompt may have put something in place of.
    console = Console(file=sys.__stdout__, emoji=False, highlight=False)
    with Live(console=console, auto_refresh=False, screen=False, transient=False) as live, trio.CancelScope() as scope:
        asked.screen.borrow(lambda text: live.console.print(Text.from_ansi(text.rstrip("\n"))))
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_until_ctrl_c, scope)
                nursery.start_soon(_until_enter, scope)
                while True:
                    live.update(Text.from_ansi(await _picture(asked, wanted, limit)), refresh=True)
                    await trio.sleep(INTERVAL)
        finally:
            asked.screen.borrow(None)
    return 0


async def _picture(asked: Asked, wanted: Wanted, limit: int) -> str:
    size = shutil.get_terminal_size()
    room = min(limit, max(1, size.lines - 4))
    try:
        rows, total, missing = await some_clients(asked.api, wanted, room)
    except Exception as error:
        return explain(error)[1]  # a gateway that restarts is there again in a moment
    cells = ([cell(shown_client(row).get(key)) for key in CLIENT_COLUMNS.values()] for row in rows)
    away = f", without {', '.join(map(cell, missing))}" if missing else ""
    return f"{table(CLIENT_COLUMNS, cells)}\n{len(rows)} of {total}{away}; Enter or Ctrl-C ends it"


async def _until_ctrl_c(scope: trio.CancelScope) -> None:
    with trio.open_signal_receiver(signal.SIGINT) as signals:
        async for _ in signals:
            break
    scope.cancel()


async def _until_enter(scope: trio.CancelScope) -> None:
    await trio.lowlevel.wait_readable(0)
    os.read(0, 4096)
    scope.cancel()
