"""The clients that are connected, as rows: which are wanted, how they are fetched, how they are shown."""

from collections.abc import Mapping
from typing import Any, Final

import click

from portico.publisher import calls
from portico.wire.safe_text import safe_text

from .api import Api
from .screen import moment

FILTERS: Final = (
    "client_id", "user_id", "node_id", "domain_id", "cluster_id", "channel_id", "username", "dialect", "transport",
    "role",
)  # fmt: skip
CLIENT_COLUMNS: Final = {
    "CLIENT": "client_id", "USER": "user_id", "NAME": "username", "CHANNEL": "channel_id", "DIALECT": "dialect",
    "ROLE": "role", "NODE": "node", "SINCE": "since",
}  # fmt: skip


class Wanted:
    """Which rows are wanted: `name=value` exactly, which the gateway decides; other words anywhere in the row."""

    def __init__(self, filters: tuple[str, ...]) -> None:
        """Raises click.UsageError for a name that no filter has."""
        self.exact: dict[str, str] = {}
        self.words: list[str] = []
        for one in filters:
            name, sign, value = one.partition("=")
            if not sign:
                self.words.append(one.casefold())
            elif name in FILTERS:
                self.exact[name] = value
            else:
                raise click.UsageError(f"There is no filter {safe_text(name)!r}; known are: {', '.join(FILTERS)}.")

    def matches(self, row: Mapping[str, object]) -> bool:
        """Whether every word is somewhere in the row."""
        if not self.words:
            return True
        text = "\n".join(value for value in row.values() if isinstance(value, str)).casefold()
        return all(word in text for word in self.words)


async def some_clients(api: Api, wanted: Wanted, limit: int) -> tuple[list[dict[str, Any]], int, list[str]]:
    """The first `limit` clients that are wanted, how many there are in all, and the nodes that did not answer.

    Where words are looked for, every page has to be read, and the count is of those that match.
    """
    rows: list[dict[str, Any]] = []
    matched = 0
    offset: int | None = 0
    missing: list[str] = []
    while offset is not None:
        size = calls.PAGE if wanted.words else min(limit - len(rows), calls.PAGE)
        page = await api.call(calls.clients(wanted.exact, max(size, 1), offset))
        missing = page.get("missing_nodes") or missing
        for row in page["clients"]:
            if wanted.matches(row):
                matched += 1
                if len(rows) < limit:
                    rows.append(row)
        offset = page["next_offset"]
        if not wanted.words and len(rows) >= limit:
            offset = None
        if not wanted.words:
            matched = page["total"]
    return rows, matched, missing


def shown_client(row: Mapping[str, Any]) -> dict[str, object]:
    """A client as a row of the table."""
    return {**row, "since": moment(row.get("connected_at"))}
