"""Clients and a publisher that go on while a deployment is moved from one mode to the other, and what each has seen.

Threads, each with a program as its users write it: `portico.Client`, `portico.Publisher`, and a client by hand that
does what the protocol reference says in "Durable events" and "Close codes", and shares no code with the SDK. They know
the address that is told to people, and nothing of the processes behind it.
"""

import itertools
import json
import random
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

import trio
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidMessage
from websockets.sync.client import connect

from portico import Backoff, Client, ClientError, Identity, Publisher
from portico.client.events import Connected, Event

USER: Final = "u1"
CHANNEL: Final = "prices"
STREAMS: Final = (f"user:{USER}", f"channel:{CHANNEL}")
LIMIT: Final = 120.0
"""Seconds for anything to happen, however busy the machine is."""
_WINDOW: Final = "retry_within_ms="


class Traveller(threading.Thread):
    """A client. `seen`: how often it passed on which event; `gaps`: per stream, before how many of its events it was
    told that some may be missing; `connections`: how often it was registered."""

    def __init__(self, name: str, base_url: str) -> None:
        super().__init__(name=name, daemon=True)
        self.base_url = base_url
        self.seen: Counter[int] = Counter()
        self.last: dict[str, int] = {}
        self.gaps: dict[str, list[int]] = {stream: [] for stream in STREAMS}
        self.unordered = 0
        self.connections = 0
        self.broke: BaseException | None = None
        self.halt = threading.Event()

    def run(self) -> None:
        """Until `halt` is set."""
        try:
            self.travel()
        except BaseException as error:
            self.broke = error

    def travel(self) -> None:
        """What this client does. Returns soon after `halt` is set."""
        raise NotImplementedError

    def took(self, push: dict[str, Any]) -> None:
        """An event that the program was given."""
        number = int(push["n"])
        self.seen[number] += 1
        stream = str(push["stream"])
        self.unordered += number <= self.last.get(stream, -1)
        self.last[stream] = number

    def told(self, streams: list[str]) -> None:
        """Of these streams something may be missing from here on."""
        for stream in streams:
            self.gaps.setdefault(stream, []).append(self.last.get(stream, -1))


class SdkClient(Traveller):
    """The Python client. It asks discovery at each attempt."""

    def travel(self) -> None:
        """Take what comes."""
        trio.run(self._travel)

    def _on_event(self, event: Event) -> None:
        self.connections += isinstance(event, Connected)

    async def _travel(self) -> None:
        identity = Identity(client_id=self.name, user_id=USER, channel_id=CHANNEL)
        patience = Backoff(first=0.1, longest=1.0)
        async with Client(self.base_url, identity=identity, backoff=patience, on_event=self._on_event) as client:
            while not self.halt.is_set():
                with trio.move_on_after(0.1):  # to look whether it is to halt
                    push = await anext(client)
                    if push["type"] == "tick":
                        self.took(push)
                    elif push["type"] == "stream_gap":
                        self.told(push["streams"])


class HandClient(Traveller):
    """A client by the rules of the protocol reference. With `url` it always goes there, as a page does that connects to
    where it came from; else it asks discovery each time."""

    def __init__(self, name: str, base_url: str, url: str | None = None) -> None:
        super().__init__(name, base_url)
        self._url = url
        self._resume: dict[str, Any] | None = None

    def travel(self) -> None:
        """Take what comes, and come back when the connection is lost."""
        while not self.halt.is_set():
            window = 0.3
            with suppress(OSError, InvalidHandshake, InvalidMessage):  # nobody there, or 503: later
                window = self._stay()
            self.halt.wait(random.uniform(0, window))

    def _stay(self) -> float:
        """One connection. Returns the seconds within which to come back."""
        url = self._url or self._discovered()
        with connect(url, proxy=None, open_timeout=LIMIT) as socket:
            said = {"type": "c_client_register", "client_id": self.name, "user_id": USER, "channel_id": CHANNEL}
            socket.send(json.dumps(said | ({"resume": self._resume} if self._resume else {})))
            while not self.halt.is_set():
                try:
                    self._on_message(json.loads(socket.recv(0.1)))
                except TimeoutError:
                    continue  # to look whether it is to halt
                except ConnectionClosed as closed:
                    reason = closed.rcvd.reason if closed.rcvd else ""
                    return int(reason.removeprefix(_WINDOW)) / 1000 if reason.startswith(_WINDOW) else 0.3
        return 0.0

    def _discovered(self) -> str:
        with urllib.request.urlopen(f"{self.base_url}/api/b-client/websocket-info", timeout=LIMIT) as answer:
            return str(json.load(answer)["websocket_url"])

    def _on_message(self, message: dict[str, Any]) -> None:
        kind = message["type"]
        if kind == "registration_success":
            self.connections += 1
            at = message["resume"]
            self._resume = {"epoch": at["epoch"], "offsets": at["offsets"]}
            if at.get("recovered") is False:
                self.told(at["lost"])
        elif kind == "stream_gap":
            assert self._resume is not None
            if message["epoch"] != self._resume["epoch"]:
                self._resume = {"epoch": message["epoch"], "offsets": dict.fromkeys(self._resume["offsets"], -1)}
            self._resume["offsets"].update(message["offsets"])
            self.told(message["streams"])
        elif kind == "tick":
            assert self._resume is not None
            stream, offset = message["stream"], message["offset"]
            if offset > self._resume["offsets"][stream]:
                self.took(message)
                self._resume["offsets"][stream] = offset


class Ticker(threading.Thread):
    """Publishes durable events under ids of their own, to the two streams in turn, until `halt` is set.

    `sent`: the stream of each event that was accepted; `failed`: what was raised instead."""

    def __init__(self, base_url: str, api_key: str, rate: float) -> None:
        super().__init__(name="publisher", daemon=True)
        self._publisher = Publisher(base_url, api_key=api_key)
        self._pause = 1 / rate
        self.sent: dict[int, str] = {}
        self.failed: list[str] = []
        self.halt = threading.Event()

    def run(self) -> None:
        """Publish."""
        with self._publisher as publisher:
            for number in itertools.count():
                if self.halt.is_set():
                    return
                targets: list[dict[str, Any]] = [{"user_id": USER}, {"channel_id": CHANNEL}]
                try:
                    publisher.push("tick", {"n": number}, durable=True, id=f"tick-{number}", **targets[number % 2])
                    self.sent[number] = STREAMS[number % 2]
                except ClientError as error:
                    self.failed.append(f"tick-{number}: {error}")
                self.halt.wait(self._pause)


def until(condition: Callable[[], bool], what: str) -> None:
    """Wait until something is so. AssertionError if it isn't in time."""
    end = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < end, f"not so after {LIMIT:g} s: {what}"
        time.sleep(0.02)  # other threads and processes; there is no event for it
