"""One process's share of a soak: `python -m tests.adversity.herd HOST PORTS NUMBER`, told what to do on its input.

A command is a line; each is answered by a line of JSON when it is done:

    connect N       N clients, registered
    mark            remember who is there and what they have heard
    heard           all that were marked, and were not sent away since, have heard one thing more
    churn S         for S seconds every second 1 % of the clients go and as many others come
    end             wait until everybody was sent away by the gateway
"""

import json
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import count
from random import Random
from typing import Final

from tests.transports.raw import close_frame

from .crowd import Client, Crowd, register

MARK: Final = b'"type":"soak"'
SHARE: Final = 0.01
_ADDRESSES: Final = 4
_PATIENCE: Final = 240.0


class Herd:
    """The clients of one gateway. `lost`: the codes of those that ended without having been sent away by us."""

    def __init__(self, crowd: Crowd, ports: list[int], number: int) -> None:
        self._crowd = crowd
        self._ports = ports
        self._number = number
        self._names = count()
        self._chance = Random(number)
        self._there: dict[Client, None] = {}
        self._marked: dict[Client, int] = {}
        self._sent_away = 0

    def lost(self) -> Counter[int]:
        """Those that should be there and aren't."""
        return Counter(client.code for client in self._there if client.ended)

    def connect(self, number: int) -> dict[str, object]:
        """So many more."""
        start = time.monotonic()
        new = [self._come() for _ in range(number)]
        self._all_in(new)
        return {"connected": len(self._there), "seconds": round(time.monotonic() - start, 2), "lost": self.lost()}

    def mark(self) -> dict[str, object]:
        """Remember who is there."""
        self._marked = {client: client.hits for client in self._there}
        return {"marked": len(self._marked)}

    def heard(self) -> dict[str, object]:
        """Wait for everybody who was marked and is there."""
        start = time.monotonic()
        waiting = {client: hits for client, hits in self._marked.items() if client in self._there}
        listeners = len(waiting)

        def all_heard() -> bool:
            for client, hits in list(waiting.items()):
                if client.hits > hits or client.ended:
                    del waiting[client]
            return not waiting

        self._crowd.until(all_heard, _PATIENCE, "everybody to have heard it")
        return {"heard": listeners, "seconds": round(time.monotonic() - start, 2), "lost": self.lost()}

    def churn(self, seconds: float) -> dict[str, object]:
        """Some go and some come, every second."""
        end = time.monotonic() + seconds
        before = self._sent_away
        new: list[Client] = []
        while time.monotonic() < end:
            for client in self._chance.sample(list(self._there), max(1, round(SHARE * len(self._there)))):
                self._go(client)
                new.append(self._come())
            self._crowd.pump(1.0)
        self._all_in([client for client in new if client in self._there])
        return {"came_and_went": self._sent_away - before, "connected": len(self._there), "lost": self.lost()}

    def end(self) -> dict[str, object]:
        """Wait for the gateway to send everybody away."""
        self._crowd.until(lambda: all(client.ended for client in self._there), _PATIENCE, "everybody sent away")
        return {"codes": self.lost()}

    def _come(self) -> Client:
        name = next(self._names)
        source = f"127.0.{self._number + 1}.{name % _ADDRESSES + 1}"
        client = Client(self._crowd, register(f"soak-{self._number}-{name}"), source=source)
        self._there[client] = None
        return self._crowd.join(client, address=(self._crowd.address[0], self._ports[name % len(self._ports)]))

    def _go(self, client: Client) -> None:
        del self._there[client]
        self._sent_away += 1
        if client.ended:
            # Not our doing.
            self._there[client] = None
        elif self._chance.random() < 0.5:
            client.hang_up(reset=True)
        else:
            client.send(close_frame(1000))

    def _all_in(self, clients: list[Client]) -> None:
        self._crowd.until(lambda: all(c.registered or c.ended for c in clients), _PATIENCE, "everybody in")


def commands(crowd: Crowd) -> Iterator[list[str]]:
    """The lines of the input, as words; the crowd lives on between them."""
    os.set_blocking(sys.stdin.fileno(), False)
    received = b""
    while True:
        crowd.pump(0.02)
        try:
            data = os.read(sys.stdin.fileno(), 4096)
        except BlockingIOError:
            continue
        if not data:
            return
        received += data
        while b"\n" in received:
            line, _, received = received.partition(b"\n")
            yield line.decode().split()


def main(host: str, ports: list[int], number: int) -> None:
    """Do as told until the input ends."""
    with Crowd((host, ports[0]), mark=MARK) as crowd:
        herd = Herd(crowd, ports, number)
        jobs: dict[str, Callable[..., dict[str, object]]] = {
            "connect": lambda words: herd.connect(int(words)),
            "mark": herd.mark,
            "heard": herd.heard,
            "churn": lambda words: herd.churn(float(words)),
            "end": herd.end,
        }
        for name, *words in commands(crowd):
            sys.stdout.write(json.dumps(jobs[name](*words)) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1], [int(port) for port in sys.argv[2].split(",")], int(sys.argv[3]))
