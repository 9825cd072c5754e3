"""Ports that several processes share: every process listens on sockets of its own, and the kernel spreads who connects.

The supervisor binds them, for two reasons. A port that another gateway has must be a refusal, and with SO_REUSEPORT
alone a second instance, started by mistake, would quietly take half the connections. And a process that replaces
another inherits its sockets, so nobody who waits in their queue is lost.
"""

import os
import socket
from typing import Final

from service.transports.listener import BACKLOG, open_listeners, why_it_cannot_listen

KINDS: Final = ("http", "websocket", "worker")


class PortTaken(Exception):
    """A port cannot be had; the text is a sentence for the operator."""


class Ports:
    """The ports of one gateway. `numbers`: by kind, what is bound (0 until `claim`: any)."""

    def __init__(self, host: str, numbers: dict[str, int], settings: dict[str, str]) -> None:
        """`numbers`: the port of each kind that there is; `settings`: the variable that says it, by kind."""
        self._host = host
        self._settings = settings
        self.numbers = numbers

    async def claim(self) -> None:
        """See that nobody else has the ports, and choose those that are 0. Raises PortTaken."""
        probes: list[socket.socket] = []
        try:
            for kind, number in self.numbers.items():
                try:
                    # Without SO_REUSEPORT: with it, the port of another gateway of ours could be had as well.
                    found = await open_listeners(self._host, number)
                except OSError as error:
                    raise PortTaken(why_it_cannot_listen(error, self._host, number, self._settings[kind])) from error
                probes += found
                self.numbers[kind] = found[0].getsockname()[1]
        finally:
            for probe in probes:
                probe.close()

    async def open(self, *, listening: bool) -> "Sockets":
        """Sockets of one process's own on all the ports. Raises OSError.

        Not `listening`: nobody gets into their queues until the process listens by itself.
        """
        sockets: Sockets = {}
        try:
            for kind, number in self.numbers.items():
                sockets[kind] = await open_listeners(self._host, number, reuse_port=True, listening=listening)
        except BaseException:
            close(sockets)
            raise
        return sockets


Sockets = dict[str, list[socket.socket]]
"""By kind; as many for each as there are addresses."""


def close(sockets: Sockets) -> None:
    """Close them all: who waits in the queues is reset, unless another process has them too."""
    for several in sockets.values():
        for sock in several:
            sock.close()


def take(numbers: dict[str, list[int]]) -> Sockets:
    """The sockets that were inherited under these descriptors, listening."""
    sockets = {kind: [socket.socket(fileno=number) for number in several] for kind, several in numbers.items()}
    for several in sockets.values():
        for sock in several:
            os.set_inheritable(sock.fileno(), False)
            sock.listen(BACKLOG)
    return sockets
