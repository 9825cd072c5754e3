"""`portico worker`: the reference worker, until a signal ends it."""

import signal

import click
import trio

from portico.client.errors import printable
from portico.client.events import Event
from portico.client.link import LinkOptions
from portico.client.nursery import background_nursery
from portico.client.reference_worker import COMMANDS
from portico.client.worker import MAX_MESSAGE, Worker

from .addressing import address, address_options, trusted
from .outcomes import HANDSHAKE_KEY, run


@click.command()
@address_options
@click.option("--name", metavar="NAME", help="The worker's client_id; made up if absent.")
@click.option("--capacity", type=click.IntRange(1, 100_000), default=16, show_default=True,
              help="Requests handled at a time.")  # fmt: skip
@click.option("--commands", metavar="A,B", help="Serve only these of: " + ", ".join(COMMANDS) + ".")
@click.option("--handshake-key", metavar="KEY", envvar="WEBSOCKET_HANDSHAKE_KEY", show_envvar=True,
              help="The key that a gateway in production asks workers for.")  # fmt: skip
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
    refuses. It reconnects for as long as it takes. On the first signal it finishes the requests in
    flight and ends; on the second it ends at once.
    """
    chosen = list(COMMANDS) if commands is None else [part.strip() for part in commands.split(",")]
    unknown = [part for part in chosen if part not in COMMANDS]
    if unknown:
        known = ", ".join(COMMANDS)
        raise click.UsageError(f"There is no command {printable(unknown[0])!r}; known are: {known}.")
    where = address(url, base_url)
    ssl_context = trusted(ca_file)

    async def program() -> int:
        serving = Worker(
            **where,
            commands={part: COMMANDS[part] for part in chosen},
            name=name,
            capacity=capacity,
            token=handshake_key,
            drain_seconds=drain_seconds,
            options=LinkOptions(max_message=MAX_MESSAGE, ssl_context=ssl_context),
            on_event=_tell,
        )
        async with background_nursery() as nursery:
            await nursery.start(_stop_on_signals, serving)
            await serving.run()
        _tell("ended")
        return 0

    run(program, secret=HANDSHAKE_KEY)


async def _stop_on_signals(serving: Worker, *, task_status: trio.TaskStatus[None]) -> None:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        task_status.started()
        async for _ in signals:
            serving.stop(now=serving.stopping.is_set())


def _tell(event: Event | str) -> None:
    click.echo(str(event), err=True)
