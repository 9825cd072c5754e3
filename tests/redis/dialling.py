"""Connections by a way of dialling, to a server that is there, by a machine that may stand still."""

from typing import Protocol

import trio

from ..backplane.contract import PATIENT


class Way(Protocol):
    """What finds the server to connect to."""

    async def dial(self) -> trio.abc.Stream: ...


async def dialled(way: Way, within: float = PATIENT) -> trio.abc.Stream:
    """A connection; asked for again where a machine that stood still answered too late. `within`: seconds."""
    with trio.fail_after(within):
        while True:
            try:
                return await way.dial()
            except OSError:
                await trio.sleep(0.01)
