"""`portico plan`: what a number of connections takes, by what was measured, and how far the model is off.

It asks no gateway. The model and every constant in it are part of what is printed.
"""

import itertools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import click
import msgspec

from . import capacity_model as model
from .outcomes import WRONG, fail

_FROM_DOCS: Final = "docs/discussion/performance.md"


@click.command()
@click.option("--connections", metavar="N", help="Clients connected at the same time, such as 1e6.")
@click.option("--push-rate", metavar="N", default="0", help="Pushes to one user each, per second.")
@click.option("--broadcast-rate", metavar="N", default="0", help="Pushes to all clients, per second.")
@click.option("--durable-rate", metavar="N", default="0", help="Durable pushes to one user each, per second.")
@click.option("--heartbeat-interval", metavar="SECONDS", default="30", show_default=True, help="Between heartbeats.")
@click.option("--payload", metavar="BYTES", default="200", show_default=True, help="A push's data.")
@click.option(
    "--processor", metavar="SHARE", default="0.5", show_default=True, help="Of a core that may be used at peak."
)
@click.option("--per-node", metavar="N", default="10000", show_default=True, help="The most connections on a node.")
@click.option(
    "--report",
    "reports",
    metavar="FILE",
    multiple=True,
    help="report.json of `make capacity`; else the documentation's figures. Given again: one to compare with.",
)
@click.option("--mode", metavar="NAME", help="The report's mode to plan by (default: split, else what held most).")
@click.option(
    "--check",
    "checks",
    metavar="FILE",
    multiple=True,
    help="Another report.json: predicted against measured, stair by stair. May be given again.",
)
@click.option("--json", "as_json", is_flag=True, help="Print a line of JSON.")
def plan(
    connections: str | None,
    push_rate: str,
    broadcast_rate: str,
    durable_rate: str,
    heartbeat_interval: str,
    payload: str,
    processor: str,
    per_node: str,
    reports: Sequence[str],
    mode: str | None,
    checks: Sequence[str],
    as_json: bool,
) -> None:
    """Size a deployment: nodes, memory, Redis shards and network for a number of connections.

    The costs are fitted to the stairs that held in a report of `make capacity`, the first --report.
    Every other --report, and every --check, is a run that was not used to fit it: the model is compared
    with each, and the errors are printed.
    """
    others = [*reports[1:], *checks]
    try:
        if connections is None and not others:
            raise model.BadReport("give --connections, the number of clients, such as 1e6, or --check.")
        if others and not reports:
            raise model.BadReport("--check compares a report with another: give --report too.")
        fitted = _model(reports[0] if reports else None, mode)
        checked = [row for other in others for row in _compare(fitted, other)]
        demand = sized = None
        if connections is not None:
            demand = model.Demand(
                connections=math.ceil(_number("--connections", connections, least=1)),
                push_rate=_number("--push-rate", push_rate),
                broadcast_rate=_number("--broadcast-rate", broadcast_rate),
                durable_rate=_number("--durable-rate", durable_rate),
                heartbeat_interval=_number("--heartbeat-interval", heartbeat_interval, least=0.1),
                payload=math.ceil(_number("--payload", payload)),
                processor=_number("--processor", processor, least=0.01, most=1),
                per_node=math.ceil(_number("--per-node", per_node, least=1)),
            )
            sized = model.size(fitted, demand)
    except model.BadReport as error:
        fail(WRONG, str(error))
    if as_json:
        answer = {"model": fitted, "demand": demand, "sizing": sized, "check": checked or None}
        click.echo(msgspec.json.encode(answer).decode())
        return
    lines = _model_lines(fitted)
    if demand is not None and sized is not None:
        lines = [*_sizing_lines(demand, sized), "", *lines]
    if checked:
        lines += ["", *_check_lines(checked)]
    click.echo("\n".join(lines))


def _number(name: str, text: str, *, least: float = 0, most: float = 1e12) -> float:
    try:
        value = float(text.replace(",", "").replace("_", ""))
    except ValueError:
        value = math.nan
    if not least <= value <= most:
        raise model.BadReport(f"{name} is {text!r}; it must be a number from {least:g} to {most:g}.")
    return value


def _model(report: str | None, mode: str | None) -> model.Model:
    if report is None:
        if mode is not None:
            raise model.BadReport("--mode chooses a mode of a report: give --report too.")
        return model.documented()
    chosen = model.choose(model.read(Path(report)), mode)
    return model.fit(chosen, f"{len(chosen.stairs)} stairs of {report}")


class _Check(msgspec.Struct):
    report: str
    connections: int
    heartbeats_per_second: float
    deliveries_per_second: float
    memory_predicted: float
    memory_measured: float
    memory_error: float
    processor_predicted: float
    processor_measured: float
    processor_error: float


def _compare(fitted: model.Model, report: str) -> list[_Check]:
    try:
        other = model.choose_named(model.read(Path(report)), fitted.mode)
    except model.BadReport as error:
        raise model.BadReport(str(error) if report in str(error) else f"{report}: {error}") from None
    rows = []
    for stair in other.stairs:
        memory = fitted.memory(stair.connections)
        processor = fitted.processor(stair.heartbeats, stair.deliveries)
        rows.append(
            _Check(
                report, stair.connections, stair.heartbeats, stair.deliveries,
                memory, stair.memory, memory / max(stair.memory, 1e-9) - 1,
                processor, stair.processor, processor / max(stair.processor, 1e-9) - 1,
            )
        )  # fmt: skip
    return rows


def _sizing_lines(demand: model.Demand, sized: model.Requirements) -> list[str]:
    needed = sized.nodes - 1
    reason = "processor" if sized.needed_by_processor >= sized.needed_by_connections else "connections"
    rows = [
        ("WebSocket nodes", f"{sized.nodes:,}", f"{needed:,} needed by {reason}, and one that may be missing"),
        (
            "connections a node",
            f"{sized.connections_per_node:,}",
            f"{math.ceil(demand.connections / needed):,} with one missing; at most {demand.per_node:,}",
        ),
        (
            "processor a node",
            f"{sized.processor_per_node:.2f} cores",
            f"{sized.processor_per_node_one_missing:.2f} with one missing; at most {demand.processor:g}",
        ),
        ("memory a node", _bytes(sized.memory_per_node), "with one missing"),
        (
            "after a crash",
            f"{sized.seconds_of_return_after_a_crash:.1f} s",
            f"of the other nodes' whole cores, until its clients are back ({model.REGISTRATIONS_PER_SECOND}/s each)",
        ),
        ("API nodes", f"{sized.api_nodes:,}", "pushes in batches; one of them may be missing"),
        (
            "Redis shards",
            f"{sized.redis_shards:,}",
            f"{sized.redis_commands_per_second_per_shard:,.0f} publications/s on each, {_bytes(sized.redis_memory)} in "
            "all for presence; each shard is a deployment with its share of the nodes",
        ),
        ("heartbeats", f"{sized.heartbeats_per_second:,.0f}/s", f"every {demand.heartbeat_interval:g} s"),
        ("deliveries", f"{sized.deliveries_per_second:,.0f}/s", f"of {demand.payload:,} bytes of data"),
        ("network in", _bits(sized.network_in_bits_per_second), "heartbeats and publications"),
        ("network out", _bits(sized.network_out_bits_per_second), "heartbeats and deliveries"),
    ]
    if needed == 1:
        rows.insert(0, ("one process", "does", "two nodes are for deploys and crashes that not all clients notice"))
    names, values = (max(len(row[column]) for row in rows) for column in (0, 1))
    head = f"{demand.connections:,} connections:"
    return [head, *(f"  {name:<{names}}  {value:>{values}}  {why}" for name, value, why in rows)]


def _model_lines(fitted: model.Model) -> list[str]:
    each = f"the {fitted.processes} processes of mode {fitted.mode}" if fitted.processes > 1 else "a process"
    lines = [
        f"The model, from {fitted.source}:",
        f"  memory    = {_bytes(fitted.a)} + {fitted.b / 1000:.2f} KB × connections",
        f"  processor = {fitted.c:.3f} + {fitted.d * 1e6:.1f} µs × heartbeats/s "
        f"+ {fitted.e * 1e6:.1f} µs × deliveries/s",
        f"  The constant parts are of {each}. deliveries/s = pushes to one user + pushes to all × connections.",
        "  nodes     = the larger of work ÷ (processor allowed − constant part) and connections ÷ most a node, and 1",
    ]
    if not fitted.apart:
        lines.append(
            "  Heartbeats and deliveries grew together in this run, so only their sum was fitted; the ratio of their "
            f"costs is that of {_FROM_DOCS}."
        )
    lines.append(
        f"  Constants of {_FROM_DOCS}, of a core each: Redis publishes {model.REDIS_LIVE_PER_SECOND:,}/s live, "
        f"{model.REDIS_DURABLE_PER_SECOND:,}/s durable (a push to all: once for each node); an API node "
        f"{model.API_LIVE_PER_SECOND:,}/s live, {model.API_DURABLE_PER_SECOND:,}/s durable, in batches of 500."
    )
    lines.append(
        f"  On the wire: data + {model.DELIVERY_OVERHEAD} bytes a delivery, {model.HEARTBEAT_IN} in and "
        f"{model.HEARTBEAT_OUT} out a heartbeat (JSON, WebSocket, TLS, TCP and IP)."
    )
    return lines


def _check_lines(rows: list[_Check]) -> list[str]:
    by_report = [list(same) for _, same in itertools.groupby(rows, lambda row: row.report)]
    lines = [line for same in by_report for line in _report_lines(same)]
    if len(by_report) > 1:
        lines.append(f"The largest errors of all {len(by_report)}: {_worst(rows)}.")
    return lines


def _report_lines(rows: list[_Check]) -> list[str]:
    lines = [
        f"Predicted against measured, in a run that was not used to fit it, {rows[0].report}:",
        f"  {'connections':>11}  {'memory MB':>17}  {'error':>6}  {'cores':>15}  {'error':>6}",
    ]
    for row in rows:
        memory = f"{row.memory_predicted / 1e6:,.1f} / {row.memory_measured / 1e6:,.1f}"
        cores = f"{row.processor_predicted:.3f} / {row.processor_measured:.3f}"
        lines.append(
            f"  {row.connections:>11,}  {memory:>17}  {row.memory_error:>+6.0%}"
            f"  {cores:>15}  {row.processor_error:>+6.0%}"
        )
    lines.append(f"  The largest errors: {_worst(rows)}.")
    return lines


def _worst(rows: list[_Check]) -> str:
    memory = max(abs(row.memory_error) for row in rows)
    processor = max(abs(row.processor_error) for row in rows)
    return f"memory {memory:.0%}, processor {processor:.0%}"


def _bytes(value: float) -> str:
    for limit, unit in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB")):
        if value >= limit:
            return f"{value / limit:.1f} {unit}"
    return f"{value / 1e3:.1f} KB"


def _bits(value: float) -> str:
    for limit, unit in ((1e9, "Gbit/s"), (1e6, "Mbit/s")):
        if value >= limit:
            return f"{value / limit:.1f} {unit}"
    return f"{value / 1e3:.1f} kbit/s"
