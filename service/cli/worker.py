"""`portico worker`: the reference worker, or one of your own, until a signal ends it."""

import signal
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import click
import trio
from click.core import ParameterSource

from portico.client.errors import printable
from portico.client.events import Event
from portico.client.link import LinkOptions
from portico.client.nursery import background_nursery
from portico.client.reference_worker import COMMANDS
from portico.client.worker import MAX_MESSAGE, Worker

from .addressing import address, address_options, trusted
from .again import portico_again
from .chat import CHAT, chat_of, not_served
from .outcomes import HANDSHAKE_KEY, run
from .settings import load_settings
from .user_worker import Offer, load

RELOAD_OPTIONS: Final = ("reload", "reload_dirs")


@click.command()
@click.argument("place", metavar="[MODULE:NAME]", required=False)
@address_options
@click.option("--name", metavar="NAME", help="The worker's client_id; made up if absent.")
@click.option("--capacity", type=click.IntRange(1, 100_000), metavar="N",
              help="Requests handled at a time.  [default: 16]")  # fmt: skip
@click.option("--commands", metavar="A,B", help="Serve only these of the commands that there are.")
@click.option("--handshake-key", metavar="KEY", envvar="WEBSOCKET_HANDSHAKE_KEY", show_envvar=True,
              help="The key that a gateway in production asks workers for.")  # fmt: skip
@click.option("--drain-seconds", type=click.FloatRange(0, 3600), metavar="SECONDS",
              help="How long requests in flight may still take when the worker ends.  [default: 10]")  # fmt: skip
@click.option("--reload", is_flag=True, help="Start anew whenever a Python file changes; for development.")
@click.option("--reload-dir", "reload_dirs", multiple=True, metavar="DIR",
              type=click.Path(exists=True, file_okay=False), help="Where changes are looked for; here.")  # fmt: skip
@click.pass_context
def worker(
    context: click.Context,
    place: str | None,
    url: str | None,
    base_url: str | None,
    ca_file: str | None,
    name: str | None,
    capacity: int | None,
    commands: str | None,
    handshake_key: str | None,
    drain_seconds: float | None,
    reload: bool,
    reload_dirs: tuple[str, ...],
) -> None:
    """Run a worker until Ctrl-C or SIGTERM: your own, or the reference worker.

    \b
    portico worker                           the reference worker
    portico worker mymodule:worker           a portico.Worker, a dict of functions, or a function
    portico worker mymodule:worker --reload
    portico worker --commands chat           conversations, by the API of OPEN_API_KEY

    Of a portico.Worker its own values count where nothing is given here. Without a name, what mymodule
    calls worker or commands is served.

    The reference worker answers get_time, echo, get_system_info and calculate; execute_command exists and
    always refuses. Where --commands names chat it answers that too, through an API in the style of
    OpenAI's; the settings of chat are those of the gateway (OPEN_API_KEY, PORTICO_CHAT_MODEL, …).

    A worker reconnects for as long as it takes. On the first signal it finishes the requests in flight and
    ends; on the second it ends at once.
    """
    if reload:
        run(lambda: _reloading(context, reload_dirs))
    offer = Offer(COMMANDS) if place is None else load(place)
    chosen = list(offer.commands) if commands is None else [part.strip() for part in commands.split(",")]
    chat = None
    if place is None:
        chat = chat_of(load_settings()) if CHAT in chosen else None
        offer = Offer({**COMMANDS, CHAT: not_served if chat is None else chat.answer})
        if chat is not None and capacity is None:
            capacity = chat.concurrency
    unknown = [part for part in chosen if part not in offer.commands]
    if unknown:
        known = ", ".join(map(printable, offer.commands))
        raise click.UsageError(f"There is no command {printable(unknown[0])!r}; known are: {known}.")
    own_address = offer.like is not None and url is None and base_url is None
    given: dict[str, Any] = {
        "commands": {part: offer.commands[part] for part in chosen},
        "name": name,
        "capacity": capacity,
        "token": handshake_key,
        "drain_seconds": drain_seconds,
        "on_event": _tell,
        **({} if own_address else address(url, base_url)),
    }
    if offer.like is None or ca_file is not None:
        own = LinkOptions(max_message=MAX_MESSAGE) if offer.like is None else offer.like.options
        given["options"] = replace(own, ssl_context=trusted(ca_file))
    given = {option: value for option, value in given.items() if value is not None}

    async def program() -> int:
        serving = Worker(**given) if offer.like is None else offer.like.replaced(**given)
        async with nullcontext() if chat is None else chat.opened(_tell), background_nursery() as nursery:
            await nursery.start(_stop_on_signals, serving)
            await serving.run()
        _tell("ended")
        return 0

    run(program, secret=HANDSHAKE_KEY)


async def _reloading(context: click.Context, folders: tuple[str, ...]) -> int:
    from .reload import run_reloading  # it needs watchfiles

    # As it was called, but for reloading; what came from the environment comes from there again.
    again = [*portico_again(), "worker"]
    for param in context.command.params:
        value = context.params.get(param.name or "")
        if (
            param.name in RELOAD_OPTIONS
            or context.get_parameter_source(param.name or "") is not ParameterSource.COMMANDLINE
        ):
            continue
        again += [str(value)] if isinstance(param, click.Argument) else [param.opts[0], str(value)]
    return await run_reloading(again, [Path(folder) for folder in folders or (".",)], _tell)


async def _stop_on_signals(serving: Worker, *, task_status: trio.TaskStatus[None]) -> None:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        task_status.started()
        async for _ in signals:
            serving.stop(now=serving.stopping.is_set())


def _tell(event: Event | str) -> None:
    click.echo(str(event), err=True)
