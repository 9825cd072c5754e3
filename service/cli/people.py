"""Who is connected: clients, workers, totals; and closing a client's connections."""

import time
from collections.abc import Mapping
from typing import Any, Final

import click

from portico.publisher import calls

from .client_rows import CLIENT_COLUMNS, Wanted, shown_client, some_clients
from .operation import Asked, ClientId, operation
from .outcomes import FAILED
from .screen import Screen, cell, json_text

WORKER_COLUMNS: Final = {
    "WORKER": "client_id", "COMMANDS": "commands", "BUSY": "load", "ANSWERS": "answers", "ERRORS": "errors",
    "MEAN MS": "average_ms", "HEALTHY": "healthy", "NODE": "node",
}  # fmt: skip


@operation("clients")
@click.argument("filters", metavar="[FILTER]...", nargs=-1)
@click.option(
    "--limit", type=click.IntRange(1, 1_000_000), default=100, show_default=True, help="Show at most so many."
)
@click.option("--live", is_flag=True, help="Keep the table up to date until Ctrl-C.")
async def clients(asked: Asked, filters: tuple[str, ...], limit: int, live: bool) -> int:
    """Who is connected and has said who they are.

    \b
    clients user_id=u1 role=client     exactly these
    clients ann berlin                 both words anywhere in the row

    Filters: client_id, user_id, node_id, domain_id, cluster_id, channel_id, username, dialect,
    transport, role.
    """
    wanted = Wanted(filters)
    if live:
        from .live import show_live  # it needs rich

        return await show_live(asked, wanted, limit)
    rows, total, missing = await some_clients(asked.api, wanted, limit)
    asked.screen.rows(
        rows if asked.screen.as_json else [shown_client(row) for row in rows], CLIENT_COLUMNS, "nobody is connected"
    )
    if len(rows) < total:
        asked.screen.complain(f"{len(rows)} of {total}: filter them, or give --limit {total}")
    _tell_missing(asked.screen, missing)
    return 0


@operation("workers")
async def workers(asked: Asked) -> int:
    """The workers, and how they are doing."""
    found = await asked.api.call(calls.workers())
    asked.screen.rows(
        found if asked.screen.as_json else [_shown_worker(row) for row in found],
        WORKER_COLUMNS,
        "no worker is connected: `portico worker` starts the reference worker",
    )
    return 0


def _shown_worker(row: Mapping[str, Any]) -> dict[str, object]:
    commands = row.get("commands")
    return {
        **row,
        "commands": ", ".join(map(str, commands)) if commands else "every command",
        "load": f"{row.get('outstanding')}/{row.get('capacity')}",
    }


@operation("status")
async def status(asked: Asked) -> int:
    """How many are connected: by dialect, by transport, by node."""
    began = time.perf_counter()
    found = await asked.api.status()
    took = time.perf_counter() - began
    if asked.screen.as_json:
        asked.screen.say(json_text(found))
        return 0
    lines = [
        f"{asked.api.base_url} answered in {took * 1000:.0f} ms",
        f"connections   {cell(found.get('total'))}, registered {cell(found.get('registered'))}",
        f"workers       {cell(found.get('workers'))}",
    ]
    for heading, key in (("by dialect", "by_dialect"), ("by transport", "by_transport"), ("by node", "by_node")):
        counts = found.get(key)
        if isinstance(counts, dict) and counts:
            lines.append(f"{heading:<13} " + ", ".join(f"{cell(name)} {cell(count)}" for name, count in counts.items()))
    asked.screen.say("\n".join(lines))
    _tell_missing(asked.screen, found.get("missing_nodes") or [])
    return 0


@operation("kick")
@click.argument("client_id", type=ClientId())
async def kick(asked: Asked, client_id: str) -> int:
    """Close all connections of a client, on every node. It is told to stay away (4010)."""
    kicked = await asked.api.call(calls.kick(client_id))
    said = f"closed {kicked} connection{'' if kicked == 1 else 's'}" if kicked else "no client of this id is connected"
    asked.screen.answer({"client_id": client_id, "kicked": kicked}, said)
    return 0 if kicked else FAILED


def _tell_missing(screen: Screen, missing: list[str]) -> None:
    if missing:
        screen.complain("without the nodes that did not answer: " + ", ".join(map(cell, missing)))
