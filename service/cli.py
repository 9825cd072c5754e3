"""`portico`: the gateway and its companions from the command line.

Knows how to turn arguments into calls, and outcomes into exit codes: 0 for success, 1 for an error
answer, 2 for something wrong in what was given, 3 for a gateway that cannot be reached or won't have
us. Promises that no outcome of any of these is a traceback, and that standard output carries answers
only: what is going on is told on standard error.
"""

import signal
import ssl
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import Any, Final, NoReturn, TypedDict

import click
import msgspec
import trio

from portico.client.background import background_nursery
from portico.client.backoff import Backoff
from portico.client.errors import BadAddress, ClientError, ConnectionLost, RequestFailed, SentAway, printable
from portico.client.events import Connected, Connecting, Event
from portico.client.link import LinkOptions
from portico.client.reference_worker import COMMANDS
from portico.client.requester import Answer, Requester
from portico.client.worker import MAX_MESSAGE, Worker
from service.settings import Settings, SettingsError

FAILED: Final = 1
WRONG: Final = 2
UNREACHABLE: Final = 3
INTERRUPTED: Final = 130

DEFAULT_BASE_URL: Final = "http://localhost:8000"

_PORT: Final = click.IntRange(1, 65535)


def _fail(code: int, *sentences: str) -> NoReturn:
    for sentence in sentences:
        click.echo(f"portico: {sentence}", err=True)
    sys.exit(code)


def _run(program: Callable[[], Awaitable[int]]) -> NoReturn:
    """Run an async program and end with its exit code."""
    try:
        code = trio.run(program)
    except BadAddress as error:
        _fail(WRONG, str(error))
    except ClientError as error:
        _fail(UNREACHABLE, str(error))
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except BaseExceptionGroup as group:
        # Ctrl-C arrives in whichever task happens to run, and comes out in the groups of its nurseries.
        if group.split(KeyboardInterrupt)[1] is not None:
            raise
        sys.exit(INTERRUPTED)
    sys.exit(code)


def _where(command: Callable[..., None]) -> Callable[..., None]:
    """The two ways to say where the gateway is, and how to know that it is the one."""
    command = click.option(
        "--ca-file",
        type=click.Path(exists=True, dir_okay=False),
        metavar="FILE",
        help="Certificates, in PEM form, to trust over https and wss; those of the system if absent.",
    )(command)
    command = click.option(
        "--base-url",
        metavar="URL",
        help=f"The gateway's HTTP address, to be asked where its WebSocket is.  [default: {DEFAULT_BASE_URL}]",
    )(command)
    return click.option("--url", metavar="URL", help="The WebSocket address itself, such as ws://localhost:8766.")(
        command
    )


class _Address(TypedDict, total=False):
    url: str
    base_url: str


def _address(url: str | None, base_url: str | None) -> _Address:
    if url is not None and base_url is not None:
        raise click.UsageError("Give --url or --base-url, not both.")
    if url is not None:
        return {"url": url}
    return {"base_url": base_url or DEFAULT_BASE_URL}


def _trusted(ca_file: str | None) -> ssl.SSLContext | None:
    if ca_file is None:
        return None
    try:
        return ssl.create_default_context(cafile=ca_file)
    except OSError:  # ssl.SSLError is one
        _fail(WRONG, f"{printable(repr(ca_file))} holds no certificates in PEM form: give --ca-file a file that does.")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="portico", prog_name="portico", message="%(prog)s %(version)s")
def main() -> None:
    """A real-time gateway: pushes to connected people and devices, requests to connected workers.

    `portico COMMAND --help` says more about each command.
    """


@main.command()
@click.option("--host", metavar="ADDRESS", help="The address to listen on; overrides HOST.")
@click.option("--port", type=_PORT, help="The port of HTTP; overrides PORT.")
@click.option("--websocket-port", metavar="PORT|same", help="Overrides WEBSOCKET_PORT.")
@click.option("--worker-port", metavar="PORT|off", help="Overrides WORKER_PORT.")
@click.option("--workers", metavar="N", help="Processes on the same ports, a core for each; overrides PORTICO_WORKERS.")
@click.option("--supervised", hidden=True, help="What the supervisor hands to a process of its.")
def serve(
    host: str | None,
    port: int | None,
    websocket_port: str | None,
    worker_port: str | None,
    workers: str | None,
    supervised: str | None,
) -> None:
    """Run the gateway.

    Settings come from the environment and a .env file; the options override five of them, and say
    nothing about the environment being production. `portico check` shows what is in force.

    With several workers, SIGHUP replaces them one after another, and one that dies is brought back.
    """
    options = {
        "--host": ("HOST", host),
        "--port": ("PORT", None if port is None else str(port)),
        "--websocket-port": ("WEBSOCKET_PORT", websocket_port),
        "--worker-port": ("WORKER_PORT", worker_port),
    }
    given = {option: (name, value) for option, (name, value) in options.items() if value is not None}
    overrides = dict(given.values())
    if supervised is not None:
        sys.exit(_serve_supervised(supervised, overrides))
    settings = _settings(overrides | ({} if workers is None else {"PORTICO_WORKERS": workers}))
    if settings.workers > 1:
        sys.exit(_supervise(settings, [part for option, (_, value) in given.items() for part in (option, value)]))
    from service.app import serve as run_gateway  # the other commands start faster without the gateway

    sys.exit(run_gateway(settings))


def _serve_supervised(place: str, overrides: dict[str, str]) -> int:
    """Be one process of several."""
    from service.supervision.link import Supervised

    try:
        link = Supervised(place)
    except ValueError as error:
        raise click.UsageError(f"--supervised: {error}.") from error
    try:
        settings = Settings.load(overrides=overrides | {"PORTICO_NAME": link.name})
    except SettingsError as error:
        link.say("failed", *error.problems)
        _fail(WRONG, *error.problems)
    from service.app import serve as run_gateway

    return run_gateway(settings, link)


def _supervise(settings: Settings, options: list[str]) -> int:
    """Run several processes. The gateway itself is not imported here: it would be one more in memory."""
    from service.observe import make_log
    from service.supervision.ports import Ports
    from service.supervision.private_redis import PrivateRedis
    from service.supervision.supervisor import Supervisor

    numbers = {"http": settings.port, "websocket": settings.websocket_port, "worker": settings.worker_port}
    redis = None
    if settings.redis_url is None:
        try:
            redis = PrivateRedis()
        except FileNotFoundError as error:
            _fail(WRONG, str(error))
    supervisor = Supervisor(
        workers=settings.workers,
        name=settings.name,
        options=options,
        ports=Ports(
            settings.host,
            {kind: number for kind, number in numbers.items() if number is not None},
            {"http": "PORT", "websocket": "WEBSOCKET_PORT", "worker": "WORKER_PORT"},
        ),
        redis=redis,
        drain_seconds=settings.drain_seconds,
        log=make_log(settings.log_format, settings.log_level),
    )
    return trio.run(supervisor.run)


def _settings(overrides: dict[str, str] | None = None) -> Settings:
    try:
        settings = Settings.load(overrides=overrides)
    except SettingsError as error:
        _fail(WRONG, *error.problems)
    return settings


@main.command()
def check() -> None:
    """Print the settings in force, and what is wrong with them.

    Secrets are masked. Exit code 0 if the gateway would start with them, 2 if not.
    """
    settings = _settings()
    rows = settings.describe()
    names, values = (max(len(getattr(row, column)) for row in rows) for column in ("name", "value"))
    for row in rows:
        click.echo(f"{row.name:<{names}}  {row.value:<{min(values, 40)}}  {row.origin}")
    for warning in settings.warnings():
        click.echo(f"warning: {warning}")


@main.command()
@_where
@click.option("--name", metavar="NAME", help="The worker's client_id; made up if absent.")
@click.option("--capacity", type=click.IntRange(1, 100_000), default=16, show_default=True,
              help="Requests handled at a time.")  # fmt: skip
@click.option("--commands", metavar="A,B", help="Serve only these of: " + ", ".join(COMMANDS) + ".")
@click.option("--handshake-key", metavar="KEY", envvar="WEBSOCKET_HANDSHAKE_KEY", show_envvar=True,
              help="The key that a gateway in production wants.")  # fmt: skip
@click.option("--drain-seconds", type=click.FloatRange(0, 3600), default=10.0, show_default=True,
              help="How long requests in flight may still take when the worker ends.")  # fmt: skip
def worker(
    url: str | None,
    base_url: str | None,
    ca_file: str | None,
    name: str | None,
    capacity: int,
    commands: str | None,
    handshake_key: str | None,
    drain_seconds: float,
) -> None:
    """Run the reference worker until Ctrl-C or SIGTERM.

    It answers get_time, echo, get_system_info and calculate; execute_command exists and always
    refuses. It reconnects for as long as it takes, finishes what is in flight when it is told to end,
    and ends at once when told twice.
    """
    chosen = list(COMMANDS) if commands is None else [part.strip() for part in commands.split(",")]
    unknown = [part for part in chosen if part not in COMMANDS]
    if unknown:
        known = ", ".join(COMMANDS)
        raise click.UsageError(f"There is no command {printable(unknown[0])!r}; known are: {known}.")
    address = _address(url, base_url)
    trusted = _trusted(ca_file)

    async def program() -> int:
        serving = Worker(
            **address,
            commands={part: COMMANDS[part] for part in chosen},
            name=name,
            capacity=capacity,
            token=handshake_key,
            drain_seconds=drain_seconds,
            options=LinkOptions(max_message=MAX_MESSAGE, ssl_context=trusted),
            on_event=_tell,
        )
        async with background_nursery() as nursery:
            await nursery.start(_stop_on_signals, serving)
            await serving.run()
        _tell("ended")
        return 0

    _run(program)


async def _stop_on_signals(serving: Worker, *, task_status: trio.TaskStatus[None]) -> None:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        task_status.started()
        async for _ in signals:
            serving.stop(now=serving.stopping.is_set())


def _tell(event: Event | str) -> None:
    click.echo(str(event), err=True)


@main.command()
@click.argument("command")
@click.argument("data", metavar="[JSON]", required=False)
@_where
@click.option("--timeout", type=click.FloatRange(0, 86_400, min_open=True), metavar="SECONDS",
              help="Over all attempts and waiting; the gateway's default if absent.")  # fmt: skip
@click.option("--stream", is_flag=True, help="Print each partial answer's data on a line of its own.")
@click.option("--count", type=click.IntRange(1), default=1, metavar="N",
              help="Call N times over one connection, and print a summary.")  # fmt: skip
@click.option("--concurrency", type=click.IntRange(1, 100_000), default=16, show_default=True, metavar="M",
              help="Calls in flight at a time, with --count.")  # fmt: skip
@click.option("--attempts", type=click.IntRange(1), default=3, show_default=True,
              help="Attempts to connect, one after another, before giving up.")  # fmt: skip
def request(
    command: str,
    data: str | None,
    url: str | None,
    base_url: str | None,
    ca_file: str | None,
    timeout: float | None,
    stream: bool,
    count: int,
    concurrency: int,
    attempts: int,
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
        _fail(WRONG, f'The data must be JSON, such as \'{{"message": "hi"}}\': {printable(str(error))}.')
    address = _address(url, base_url)
    trusted = _trusted(ca_file)

    async def program() -> int:
        requester = Requester(
            **address,
            backoff=Backoff(max_attempts=attempts),
            options=LinkOptions(ssl_context=trusted),
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

    _run(program)


def _tell_trouble(event: Event) -> None:
    """For a single call the usual is not worth a line; a second attempt is."""
    if not isinstance(event, Connected) and not (isinstance(event, Connecting) and event.attempt == 1):
        _tell(event)


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
    click.echo(msgspec.json.encode(value).decode())


if __name__ == "__main__":
    main()
