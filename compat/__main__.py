"""`python -m compat`: run the existing client programs against a live deployment and print what works.

Exits with 0 where nothing failed, 1 where something did, 2 where the command line is wrong or the deployment can't be
tested, with one sentence, and 130 where it was interrupted.
"""

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

import trio

from compat.deployment import Target, UnusableError
from compat.program import KINDS
from compat.report import Result, as_json, closing_line, exit_code, printable, table
from compat.runner import Plan, run
from compat.scenarios import ALL, NoScenarioError, chosen


def _base_url(text: str) -> str:
    try:
        parts = urlsplit(text)
        if parts.scheme in ("http", "https") and parts.hostname and parts.port != 0:
            return text.rstrip("/")
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"{printable(text)!r} is no base URL: give one as http://localhost:8000.")


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= 3600:
        raise argparse.ArgumentTypeError(f"{printable(text)!r} is no time limit: give seconds above 0, at most 3600.")
    return seconds


def _names(text: str) -> list[str]:
    return [name for name in text.split(",") if name]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m compat", description="Run existing client programs against a live deployment."
    )
    parser.add_argument("--base-url", type=_base_url, help="where its HTTP is, as http://localhost:8000")
    parser.add_argument("--api-key", help="a key of its HTTP API, where it asks for one")
    parser.add_argument(
        "--handshake-key",
        default=os.environ.get("WEBSOCKET_HANDSHAKE_KEY") or None,
        help="the workers' handshake key (from WEBSOCKET_HANDSHAKE_KEY where that is set)",
    )
    parser.add_argument("--worker-url", help="the workers' own port, as ws://localhost:8765 (else /worker is used)")
    parser.add_argument("--only", type=_names, action="extend", default=[], metavar="A,B", help="these scenarios")
    parser.add_argument("--skip", type=_names, action="extend", default=[], metavar="A,B", help="not these scenarios")
    parser.add_argument("--client", choices=KINDS, action="append", help="this client program (again for another)")
    parser.add_argument("--no-api", action="store_true", help="leave out what needs the HTTP API")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there as well")
    parser.add_argument("--timeout", type=_seconds, default=10.0, metavar="S", help="for one expected thing (10)")
    parser.add_argument("--list", action="store_true", help="list the scenarios and end")
    return parser


def _progress(result: Result) -> None:
    print(f"{result.outcome:8}{result.scenario} / {result.client}", file=sys.stderr)


async def _run(plan: Plan) -> list[Result] | None:
    """Play the plan; None where SIGINT or SIGTERM came first, with everything cleared away by then.

    Raises UnusableError.
    """
    results: list[Result] | None = None
    unusable: UnusableError | None = None

    async def play() -> None:
        nonlocal results, unusable
        # Kept, so that it comes out by itself and not in a group.
        try:
            results = await run(plan)
        except UnusableError as error:
            unusable = error
        nursery.cancel_scope.cancel()

    # A KeyboardInterrupt could come up anywhere, in the clearing away too; a signal that is awaited can't.
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(play)
            async for _ in signals:
                nursery.cancel_scope.cancel()
    if unusable is not None:
        raise unusable
    return results


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the suite as the command line says; returns the exit code. Raises SystemExit(2) on wrong usage."""
    parser = _parser()
    given = parser.parse_args(arguments)
    if given.list:
        for row in ALL:
            print(f"{row.name:28}{row.what}")
        return 0
    if given.base_url is None:
        parser.error("Say where the deployment is: --base-url http://localhost:8000.")
    target = Target(given.base_url, given.api_key, given.handshake_key, given.worker_url, given.timeout)
    try:
        scenarios = chosen(given.only, given.skip)
        kinds = tuple(kind for kind in KINDS if not given.client or kind in given.client)
        # Progress is for somebody who watches; the table says it all again.
        told = _progress if sys.stderr.isatty() else (lambda result: None)
        results = trio.run(_run, Plan(target, scenarios, kinds, not given.no_api, told))
    except (NoScenarioError, UnusableError) as error:
        print(printable(str(error)), file=sys.stderr)
        return 2
    if results is None:
        print("Interrupted; what the run had made is cleared away.", file=sys.stderr)
        return 130
    print(table(results))
    print(closing_line(results))
    if given.json is not None:
        try:
            given.json.write_text(as_json(target.base_url, results), encoding="utf-8")
        except OSError as error:
            print(f"The results can't be written to {given.json}: {error.strerror}.", file=sys.stderr)
            return 2
    return exit_code(results)


if __name__ == "__main__":
    raise SystemExit(main())
