"""`portico request`: calls a worker through the gateway, once or many times, and prints what comes back."""

from collections import Counter
from contextlib import aclosing
from typing import Any

import click
import msgspec
import trio

from portico.client.backoff import Backoff
from portico.client.errors import ClientError, ConnectionLost, RequestFailed, SentAway, printable
from portico.client.events import Connected, Connecting, Event
from portico.client.link import LinkOptions
from portico.client.requester import Answer, Requester

from .addressing import address, address_options, api_key_option, key_of, trusted
from .outcomes import FAILED, UNREACHABLE, WRONG, fail, run
from .screen import json_text


@click.command()
@click.argument("command")
@click.argument("data", metavar="[JSON]", required=False)
@address_options
@api_key_option
@click.option("--timeout", type=click.FloatRange(0, 86_400, min_open=True), metavar="SECONDS",
              help="Over all attempts and waiting; the gateway's default if absent.")  # fmt: skip
@click.option("--stream", is_flag=True, help="Print each partial answer's data on a line of its own.")
@click.option("--count", type=click.IntRange(1), default=1, metavar="N",
              help="Call N times over one connection, and print a summary.")  # fmt: skip
@click.option("--concurrency", type=click.IntRange(1, 100_000), default=16, show_default=True, metavar="M",
              help="Calls in flight at a time, with --count.")  # fmt: skip
@click.option("--attempts", type=click.IntRange(1), default=3, show_default=True,
              help="Attempts to connect, one after another, before giving up.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="As other commands take it; the answer is JSON in any case.")
def request(
    command: str,
    data: str | None,
    url: str | None,
    base_url: str | None,
    ca_file: str | None,
    api_key: str | None,
    timeout: float | None,
    stream: bool,
    count: int,
    concurrency: int,
    attempts: int,
    as_json: bool,
) -> None:
    """Send a request to a worker and print its answer as JSON.

    \b
    portico request get_time
    portico request echo '{"message": "Hello World"}'
    portico request echo '{"message": "Hello"}' --count 1000 --concurrency 64

    Exit code 0 for a success, 1 for an error answer, 2 for wrong arguments, 3 if the gateway cannot be
    reached.
    """
    if stream and count > 1:
        raise click.UsageError("Give --stream or --count, not both.")
    try:
        content = None if data is None else msgspec.json.decode(data.encode())
    except (msgspec.DecodeError, RecursionError, UnicodeEncodeError) as error:
        fail(WRONG, f'The data must be JSON, such as \'{{"message": "hi"}}\': {printable(str(error))}.')
    where = address(url, base_url)
    ssl_context = trusted(ca_file)
    key = key_of(api_key)

    async def program() -> int:
        requester = Requester(
            **where,
            backoff=Backoff(max_attempts=attempts),
            options=LinkOptions(api_key=key, ssl_context=ssl_context),
            on_event=_tell_trouble,
            max_in_flight=concurrency,
        )
        async with requester:
            if stream:
                return await _stream(requester, command, content, timeout)
            if count > 1:
                return await _many(requester, command, content, timeout, count, concurrency)
            answer = await _ask(requester, command, content, timeout)
        _print(answer)
        return 0 if answer.success else FAILED

    run(program)


def _tell_trouble(event: Event) -> None:
    """For a single call the usual is not worth a line; a second attempt is."""
    if not isinstance(event, Connected) and not (isinstance(event, Connecting) and event.attempt == 1):
        click.echo(str(event), err=True)


async def _ask(requester: Requester, command: str, data: Any, timeout: float | None) -> Answer:
    try:
        return await requester.ask(command, data, timeout=timeout)
    except RequestFailed as failed:  # what is not the gateway's word but our own: no answer in time
        return Answer(failed.request_id, False, None, failed.error, None)


async def _stream(requester: Requester, command: str, data: Any, timeout: float | None) -> int:
    try:
        async with aclosing(requester.stream(command, data, timeout=timeout)) as parts:
            async for part in parts:
                _print(part)
    except RequestFailed as failed:
        click.echo(f"portico: {failed}", err=True)
        return FAILED
    return 0


async def _many(
    requester: Requester, command: str, data: Any, timeout: float | None, count: int, concurrency: int
) -> int:
    by_worker: Counter[str] = Counter()
    errors: Counter[str] = Counter()
    left = iter(range(count))
    ended: list[ClientError] = []

    async def caller() -> None:
        for _ in left:
            try:
                answer = await _ask(requester, command, data, timeout)
            except ClientError as error:
                errors[str(error)] += 1
                # A lost connection cost this call; the next one waits for the next connection.
                # Anything else is what the next one would get as well.
                if not isinstance(error, ConnectionLost) or isinstance(error, SentAway):
                    ended.append(error)
                    return
            else:
                if answer.success:
                    by_worker[answer.processed_by or ""] += 1
                else:
                    errors[answer.error or ""] += 1

    started = trio.current_time()
    async with trio.open_nursery() as nursery:
        for _ in range(min(concurrency, count)):
            nursery.start_soon(caller)
    answered = by_worker.total()
    _print(
        {
            "answered": answered,
            "failed": count - answered,
            "by_worker": dict(sorted(by_worker.items())),
            "errors": dict(errors),
            "seconds": round(trio.current_time() - started, 3),
        }
    )
    if ended:
        return UNREACHABLE
    return 0 if answered == count else FAILED


def _print(value: object) -> None:
    click.echo(json_text(value))
