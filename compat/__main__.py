"""`python -m compat`: run client programs against a live deployment, and certify what works.

Exits with 0 where nothing failed, 1 where something did, 2 where the command line is wrong or the deployment can't be
tested, with one sentence, and 130 where it was interrupted; what an interrupted run found is written all the same.
"""

import argparse
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import urlsplit

import trio

from compat.certificate import Subject, as_html, as_json, as_junit
from compat.choice import NoScenarioError, chosen
from compat.clients import KINDS
from compat.deployment import MODES, Target
from compat.outcome import UnusableError
from compat.report import Result, closing_line, exit_code, printable, table
from compat.runner import Plan, Run, run
from compat.script import Scenario, read
from compat.tokens import AUTHS, claims


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


def _certificate(text: str) -> Path:
    path = Path(text)
    if not path.is_file():
        raise argparse.ArgumentTypeError(f"there is no file {printable(text)!r}: give a certificate in PEM.")
    return path.absolute()


def _token(text: str) -> str:
    try:
        claims(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"a run can't use this token: {error}.") from error
    return text


def _names(text: str) -> list[str]:
    return [name for name in text.split(",") if name]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m compat", description="Run client programs against a live deployment, and certify what works."
    )
    add = parser.add_argument
    add("--base-url", type=_base_url, help="where its HTTP is, as http://localhost:8000")
    add("--api-key", help="a key of its HTTP API, where it asks for one")
    add(
        "--handshake-key",
        default=os.environ.get("WEBSOCKET_HANDSHAKE_KEY") or None,
        help="the workers' handshake key (from WEBSOCKET_HANDSHAKE_KEY where that is set)",
    )
    add("--worker-url", help="the workers' own port, as ws://localhost:8765 (else /worker is used)")
    add("--http-port", type=int, metavar="N", help="the HTTP port that discovery should name (the base URL's)")
    add("--mode", choices=("auto", *MODES), default="auto", help="the mode that it should be in (auto: any)")
    add("--strategy", default="least_loaded", metavar="NAME", help="its PORTICO_LB_STRATEGY (least_loaded)")
    add("--no-queue", action="store_true", help="its PORTICO_QUEUE_LIMIT is 0")
    add("--short-history", action="store_true", help="its PORTICO_HISTORY_LENGTH is 5 or less")
    add("--lose-history", metavar="COMMAND", help="has the deployment lose its history, as redis-cli FLUSHALL")
    add(
        "--idle-timeout", type=_seconds, default=0.0, metavar="S",
        help="a proxy on the way cuts what is silent for so long: play the row that is, for longer",
    )  # fmt: skip
    add("--auth", choices=("auto", *AUTHS), default="auto", help="its PORTICO_AUTH (auto: find out)")
    add("--token", type=_token, metavar="JWT", help="a token of the role admin, where it looks at tokens")
    add("--ca", type=_certificate, metavar="FILE", help="trust who has this certificate, beside the usual ones")
    add("--only", type=_names, action="extend", default=[], metavar="A,B", help="these scenarios")
    add("--skip", type=_names, action="extend", default=[], metavar="A,B", help="not these scenarios")
    add("--client", choices=KINDS, action="append", help="this client program (again for another)")
    add("--no-api", action="store_true", help="leave out what needs the HTTP API")
    add("--invasive", action="store_true", help="also what others notice: pushes to all, workers for any command")
    add("--fail-on-skip", action="store_true", help="exit with 1 where something was skipped")
    add("--json", type=Path, metavar="FILE", help="write the results there as well")
    add("--junit", type=Path, metavar="FILE", help="the same for continuous integration, as JUnit's XML")
    add("--html", type=Path, metavar="FILE", help="the same as one page, with the transcript of each failure")
    add("--timeout", type=_seconds, default=10.0, metavar="S", help="for one expected thing (10)")
    add("--list", action="store_true", help="list the scenarios and end")
    return parser


def _progress(result: Result) -> None:
    reason = f": {printable(result.reason)}" if result.outcome == "failed" else ""
    print(f"{result.outcome:8}{result.scenario} / {result.client}{reason}", file=sys.stderr)


async def _run(plan: Plan, into: Run) -> bool:
    """Play the plan; False where SIGINT or SIGTERM came first, with everything cleared away by then.

    Raises UnusableError.
    """
    whole = False
    unusable: UnusableError | None = None

    async def play() -> None:
        nonlocal whole, unusable
        # Kept, so that it comes out by itself and not in a group.
        try:
            await run(plan, into)
            whole = True
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
    return whole


def _trust(certificate: Path | None) -> None:
    """Have every client program trust a certificate, each by the variable that its library looks at."""
    if certificate is not None:
        for name in (
            "SSL_CERT_FILE",
            "NODE_EXTRA_CA_CERTS",
            "REQUESTS_CA_BUNDLE",
            "WEBSOCKET_CLIENT_CA_BUNDLE",
            "CURL_CA_BUNDLE",
        ):
            os.environ[name] = str(certificate)


def _write(given: argparse.Namespace, subject: Subject, results: Sequence[Result]) -> bool:
    """Write the files that were asked for; whether all could be."""
    forms: tuple[tuple[Path | None, Callable[[Subject, Sequence[Result]], str]], ...] = (
        (given.json, as_json), (given.junit, as_junit), (given.html, as_html),
    )  # fmt: skip
    fine = True
    for path, form in forms:
        if path is not None:
            try:
                path.write_text(form(subject, results), encoding="utf-8")
            except OSError as error:
                print(f"The results can't be written to {path}: {error.strerror}.", file=sys.stderr)
                fine = False
    return fine


def _listed(every: Sequence[Scenario]) -> int:
    for row in every:
        print(f"{row.name:34}{row.title}" + (f"  [{', '.join(sorted(row.needs))}]" if row.needs else ""))
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the suite as the command line says; returns the exit code. Raises SystemExit(2) on wrong usage."""
    parser = _parser()
    given = parser.parse_args(arguments)
    every = read()
    if given.list:
        return _listed(every)
    if given.base_url is None:
        parser.error("Say where the deployment is: --base-url http://localhost:8000.")
    _trust(given.ca)
    mode = None if given.mode == "auto" else given.mode
    target = Target(
        given.base_url, given.api_key, given.handshake_key, given.worker_url, given.timeout, given.http_port, mode,
        given.invasive, given.strategy, not given.no_queue, given.short_history,
        None if given.auth == "auto" else given.auth, given.token, given.lose_history, given.idle_timeout,
    )  # fmt: skip
    began, into = time.time(), Run()
    try:
        scenarios = chosen(every, given.only, given.skip)
        kinds = tuple(kind for kind in KINDS if not given.client or kind in given.client)
        # Progress is for somebody who watches; the table says it all again.
        told = _progress if sys.stderr.isatty() else (lambda result: None)
        plan = Plan(target, scenarios, kinds, not given.no_api, told)
        whole = trio.run(_run, plan, into)
    except (NoScenarioError, UnusableError) as error:
        print(printable(str(error)), file=sys.stderr)
        return 2
    results = into.sorted(plan)
    subject = Subject(
        target.base_url, into.mode, into.found.environment, into.found.version, into.found.websocket_url, began,
        time.time() - began, into.runtimes, {row.name: row.title for row in scenarios},
        time.strftime("%Y-%m-%d %H:%M:%S %z", time.localtime(began)), whole,
    )  # fmt: skip
    if results:
        print(table(results))
        print(closing_line(results))
    written = _write(given, subject, results)
    if not whole:
        print("Interrupted; what the run had made is cleared away.", file=sys.stderr)
        return 130
    return exit_code(results, fail_on_skip=given.fail_on_skip) if written else 2


if __name__ == "__main__":
    raise SystemExit(main())
