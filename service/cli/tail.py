"""`portico tail`: what passes through the gateway, as it passes: server-sent events, whose data is JSON.

The gateway is told those filters that it knows, so that it needn't send the rest; all of them are applied here.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from typing import Any, Final

import click
import httpx
import msgspec

from portico.client.errors import Unreachable
from portico.publisher.answers import Came, Refused, read_object
from portico.wire.safe_text import safe_text

from .api import Api
from .operation import Asked, operation
from .outcomes import UNREACHABLE
from .screen import cell, json_text, moment

PATH: Final = "/api/events"
LONGEST_LINE: Final = 16 << 20
"""Bytes of one event; more ends the tail."""
GATEWAY_FILTERS: Final = ("event", "user_id", "client_id", "node")
LEFT_OUT: Final = "left_out"
"""What the gateway calls it when it tells how many events there was no room for."""
_TOLD: Final = ("id", "event", "timestamp", "node")


@operation("tail")
@click.argument("filters", metavar="[FILTER]...", nargs=-1)
@click.option("--count", type=click.IntRange(1), metavar="N", help="End after so many.")
async def tail(asked: Asked, filters: tuple[str, ...], count: int | None) -> int:
    """Who comes and goes, which requests fail, and what clients say, as it happens, until Ctrl-C.

    \b
    tail event=registered user_id=u1     events that have exactly these
    tail ann left                        both words anywhere in the event

    Pushes, and requests that succeed, are no events: PORTICO_LOG_LEVEL=debug has a line for each push.

    Where events come faster than they can be shown some are left out, and a line says how many.
    """
    wanted = [Filter(one) for one in filters]
    left = count
    async with aclosing(_events(asked.api, _query(wanted))) as events:
        async for name, event in events:
            if name == LEFT_OUT:
                asked.screen.complain(f"{cell(event.get('count'))} events were left out")
                continue
            if not all(one.holds(event) for one in wanted):
                continue
            asked.screen.answer(event, event_text(event))
            if left is not None:
                left -= 1
                if not left:
                    return 0
    asked.screen.complain("the gateway has ended the events: it restarts, or a proxy in between cuts what lasts")
    return UNREACHABLE


class Filter:
    """`name=value`: a field of the event is exactly this; any other word: it is somewhere in the event."""

    def __init__(self, text: str) -> None:
        self.name, sign, self.value = text.partition("=")
        self._word = "" if sign else text.casefold()
        if self._word:
            self.name = ""

    def holds(self, event: Mapping[str, Any]) -> bool:
        """Whether the event is wanted; of a client's message, its fields count as well."""
        if self._word:
            return self._word in json_text(event).casefold()
        found = event.get(self.name)
        if found is None and isinstance(message := event.get("message"), dict):
            found = message.get(self.name)
        return found == self.value if isinstance(found, str) else json_text(found) == self.value


def event_text(event: Mapping[str, Any]) -> str:
    """An event for people: when, what, and the rest as JSON."""
    rest = {name: value for name, value in event.items() if name not in _TOLD and value is not None}
    at, what = moment(event.get("timestamp")), safe_text(str(event.get("event")))
    return f"{at}  {what:<14}  {json_text(rest)}"


def _query(wanted: list[Filter]) -> dict[str, str]:
    """What the gateway may be told. Of two that say different things of one field it is told the first."""
    return {one.name: one.value for one in reversed(wanted) if one.name in GATEWAY_FILTERS}


async def _events(api: Api, query: dict[str, str]) -> AsyncGenerator[tuple[str, dict[str, Any]], None]:
    """The events with their names, until the gateway ends them. Raises Refused or Unreachable."""
    try:
        # What is asked for comes whenever it comes.
        timeout = httpx.Timeout(10.0, read=None)
        headers = {"accept": "text/event-stream"}
        async with api.http.stream(
            "GET", api.base_url + PATH, params=query, headers=headers, timeout=timeout
        ) as answer:
            if answer.status_code != 200:
                _refuse(Came(answer.status_code, await answer.aread()))
            async with aclosing(_data(answer.aiter_bytes())) as found:
                async for name, data in found:
                    try:
                        event = msgspec.json.decode(data)
                    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
                        continue
                    if isinstance(event, dict):
                        yield name, event
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise await api.unreachable(error) from error


def _refuse(came: Came) -> None:
    try:
        read_object(came)
    except Refused as refused:
        if came.status == 404:
            raise Refused(404, refused.code, "This gateway has no live events: it is of an earlier version.") from None
        raise
    raise Refused(came.status, "internal", "The answer is no stream of events.")


async def _data(parts: AsyncIterator[bytes]) -> AsyncGenerator[tuple[str, bytes], None]:
    """The name and the data of each event (HTML standard, section 9.2.6)."""
    waiting = name = b""
    data: list[bytes] = []
    async for part in parts:
        # By bytes: in JSON there may be characters that Python takes for line ends.
        *lines, waiting = (waiting + part).split(b"\n")
        if len(waiting) > LONGEST_LINE:
            raise Unreachable("An event of the gateway's is longer than any should be.")
        for line in lines:
            line = line.removesuffix(b"\r")
            if line.startswith(b"data:"):
                data.append(line[5:].removeprefix(b" "))
            elif line.startswith(b"event:"):
                name = line[6:].removeprefix(b" ")
            elif not line:
                if data:
                    yield name.decode("utf-8", "replace"), b"\n".join(data)
                name = b""
                data.clear()
