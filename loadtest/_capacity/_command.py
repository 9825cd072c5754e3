"""The command: each mode in turn, one report.

    python -m loadtest._capacity                       every mode, up to 10,000 connections, about 15 minutes
    python -m loadtest._capacity --modes serve,split   some of them
    python -m loadtest._capacity --from run.json       a report on runs that were made already

Exit codes: 0 every mode met the thresholds at its first stair at least; 1 one did not, or could not be run; 2 nothing
was started; 130 interrupted, with a report on what was measured until then.
"""

from __future__ import annotations

import argparse
import os
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

from loadtest import _result, _thresholds
from loadtest._stairs import parse_stairs

from . import _modes as modes
from ._comparison import FORMAT, Comparison, Measured, compare, machine, write
from ._docs import check, put
from ._load import load_table
from ._page import render
from ._run import Climb, Failed, climb, cores, so_far

_STAIRS: Final = "100,500,1000,2000,5000,10000"
_SHORT: Final = "50,200"
_PER_PROCESS: Final = 5000
_SPARE_DESCRIPTORS: Final = 200


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it. Returns the exit code."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        if options.docs is not None:
            check(Path(options.docs))
        if options.given:
            return _report_on(options)
        wanted = _modes(options.modes)
        order = _climb(options)
        _check_descriptors(order)
    except (ValueError, OSError, msgspec.DecodeError) as error:
        print(f"capacity: {error}", file=sys.stderr)
        return 2
    return _measure(options, wanted, order)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="capacity",
        description="Start each way of deploying on this machine, climb the same staircase of connections on each, and "
        "write one report that compares them.",
        epilog="Thresholds, heartbeats and rates are the load test's: see docs/how-to/load-test.md.",
    )
    add = parser.add_argument
    names = ",".join(mode.name for mode in modes.MODES)
    add("--modes", default=names, help=f"which of {names} (default: all)")
    add("--stairs", default=None, metavar="N,…", help=f"numbers of connections, ascending (default: {_STAIRS})")
    add("--hold", type=float, default=None, metavar="SECONDS", help="how long each is held (default: 15)")
    add(
        "--rate", type=float, default=None, metavar="PER_SECOND", help="connections that come per second (default: 400)"
    )
    add("--processes", type=int, default=None, help=f"of the load (default: one for each {_PER_PROCESS} connections)")
    add("--thresholds", default=None, metavar="FILE", help="what each stair must reach (default: the load test's)")
    add("--keep-climbing", action="store_true", help="go on to the last stair even where one does not hold")
    add("--short", action="store_true", help=f"two small stairs ({_SHORT}), held for 3 s: does it work?")
    add("--from", dest="given", nargs="+", metavar="RESULT", default=None,
        help="no run: report on files of `locust -f loadtest … --result FILE`, or on a report.json")  # fmt: skip
    add("--out", default="build/capacity", metavar="FOLDER", help="where report.html, report.json and the logs go")
    add("--load-table", action="store_true", help="at the end print how the load itself fared, as a table for a page")
    add("--docs", nargs="?", const="docs", default=None, metavar="FOLDER",
        help="also put the report, with pictures, into this documentation (default: docs)")  # fmt: skip
    add("locust", nargs="*", metavar="-- OPTION", help="more options of the load test, after --")
    add("--version", action="version", version=FORMAT)
    return parser


def _modes(text: str) -> list[modes.Mode]:
    by_name = {mode.name: mode for mode in modes.MODES}
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in by_name:
            raise ValueError(f"there is no mode {name!r}; those there are, are {', '.join(by_name)}.")
    if not names:
        raise ValueError(f"--modes names none; those there are, are {', '.join(by_name)}.")
    return [by_name[name] for name in dict.fromkeys(names)]


def _climb(options: argparse.Namespace) -> Climb:
    text = options.stairs or (_SHORT if options.short else _STAIRS)
    try:
        stairs = tuple(parse_stairs(text))
    except ValueError:
        raise ValueError(
            f"--stairs is {text!r}; it must be ascending numbers of at least 1, such as {_STAIRS}."
        ) from None
    hold = options.hold if options.hold is not None else 3.0 if options.short else 15.0
    rate = options.rate if options.rate is not None else 200.0 if options.short else 400.0
    processes = options.processes if options.processes is not None else -(-stairs[-1] // _PER_PROCESS)
    for name, value in (("--hold", hold), ("--rate", rate), ("--processes", processes)):
        if not value > 0:
            raise ValueError(f"{name} is {value:g}; it must be above 0.")
    if options.thresholds is not None:
        try:
            _thresholds.load(Path(options.thresholds))
        except _thresholds.ThresholdsError as error:
            raise ValueError(str(error)) from error
    return Climb(
        stairs, hold, rate, processes, options.thresholds, options.keep_climbing or options.short, tuple(options.locust)
    )


def _check_descriptors(order: Climb) -> None:
    """Raise the limit of open files as far as this user may. Raises ValueError, with the number that would work."""
    need = order.stairs[-1] + _SPARE_DESCRIPTORS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < need:
        if hard != resource.RLIM_INFINITY and hard < need:
            raise ValueError(
                f"{order.stairs[-1]:,} connections need {need:,} open files in a process, and this user may have "
                f"{hard:,}: raise it (ulimit -Hn {need}), or say --stairs with at most "
                f"{max(1, hard - _SPARE_DESCRIPTORS):,}."
            )
        resource.setrlimit(resource.RLIMIT_NOFILE, (need, hard))


def _measure(options: argparse.Namespace, wanted: list[modes.Mode], order: Climb) -> int:
    out = Path(options.out)
    out.mkdir(parents=True, exist_ok=True)
    gateway_cores, load_cores = cores()
    minutes = len(wanted) * (order.longest_seconds + 10) / 60
    print(f"{len(wanted)} modes, up to {order.stairs[-1]:,} connections each: some {minutes:.0f} minutes.", flush=True)
    measured: list[Measured] = []
    interrupted = False
    signal.signal(signal.SIGTERM, _interrupt)
    started = time.time()
    with tempfile.TemporaryDirectory(prefix="capacity-") as scratch:
        for number, mode in enumerate(wanted, 1):
            print(f"[{number}/{len(wanted)}] {mode.title}", flush=True)
            one = Measured(mode.name, mode.title, mode.processes)
            measured.append(one)
            try:
                with modes.running(mode, gateway_cores, Path(scratch)) as up:
                    one.settings = up.settings
                    one.result = climb(up, order, load_cores, Path(scratch), _say)
            except (modes.Unavailable, Failed) as error:
                one.failed = str(error)
                _say(one.failed)
            except KeyboardInterrupt:
                interrupted = True
                one.failed = "interrupted"
                one.result = so_far(mode, Path(scratch))
            _keep_logs(Path(scratch), out)
            _write(compare(measured, machine(gateway_cores, load_cores), started), out)
            if interrupted:
                break
            _say(_outcome(one))
    print(f"The report is {out / 'report.html'}.", flush=True)
    if options.load_table:
        print(load_table(measured), flush=True)
    if interrupted:
        return 130
    if options.docs is not None:
        _say(put(compare(measured, machine(gateway_cores, load_cores), started), out, Path(options.docs)))
    return 0 if all(one.held for one in measured) else 1


def _outcome(one: Measured) -> str:
    if one.result is None:
        return one.failed or "nothing was measured"
    broke = one.broke_at
    if broke is not None:
        return f"held {one.held:,}; not {broke:,}: {', '.join(one.broke)[:120]}"
    return f"held {one.held:,}, the most that was tried"


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


def _say(text: str) -> None:
    print(f"      {text}", flush=True)


def _keep_logs(scratch: Path, out: Path) -> None:
    for log in scratch.glob("*.log"):
        (out / log.name).write_bytes(log.read_bytes()[-(1 << 20) :])


def _write(comparison: Comparison, out: Path) -> None:
    """Both, and never half of one: somebody may be looking at the last."""
    write(comparison, out / "report.json")
    temporary = out / ".report.html"
    temporary.write_text(render(comparison), encoding="utf-8")
    os.replace(temporary, out / "report.html")


def _report_on(options: argparse.Namespace) -> int:
    measured: list[Measured] = []
    whole: Comparison | None = None
    for name in options.given:
        data = Path(name).read_bytes()
        with suppress(msgspec.DecodeError):
            whole = msgspec.json.decode(data, type=Comparison)
            measured += whole.modes
            continue
        try:
            result = msgspec.json.decode(data, type=_result.Result)
        except msgspec.DecodeError as error:
            raise ValueError(f"{name} is neither a result of the load test nor a report.json: {error}") from None
        measured.append(Measured(Path(name).stem, Path(name).stem, max(1, len(result.gateway.nodes)), result=result))
    out = Path(options.out)
    out.mkdir(parents=True, exist_ok=True)
    # One report's machine and time stay its own.
    report = compare(measured, machine([], []) if whole is None else whole.machine, time.time())
    if whole is not None and len(options.given) == 1:
        report.started_at, report.ended_at = whole.started_at, whole.ended_at
    _write(report, out)
    print(f"The report is {out / 'report.html'}.")
    if options.load_table:
        print(load_table(measured))
    if options.docs is not None:
        print(put(report, out, Path(options.docs)))
    return 0
