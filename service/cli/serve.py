"""`portico serve`: the gateway, as one process or as several under a supervisor.

With `--workers` above 1 this process becomes the supervisor and starts `portico serve --supervised …` as often as
asked for. The supervisor never imports the gateway, which would be one more in memory.
"""

import sys

import click
import trio

from service.collector import without_collections
from service.settings import Settings, SettingsError
from service.without_rich import without_rich

from .outcomes import WRONG, fail
from .settings import load_settings


@click.command()
@click.option("--host", metavar="ADDRESS", help="The address to listen on; overrides HOST.")
@click.option("--port", type=click.IntRange(0, 65535), help="The port of HTTP (0: any free one); overrides PORT.")
@click.option("--websocket-port", metavar="PORT|same", help="A second port for WebSockets; overrides WEBSOCKET_PORT.")
@click.option("--worker-port", metavar="PORT|off", help="A port for workers only; overrides WORKER_PORT.")
@click.option("--workers", metavar="N", help="Processes on the same ports, a core for each; overrides PORTICO_WORKERS.")
@click.option("--console", is_flag=True, help="Also a console to it, on this terminal: as `portico console`.")
@click.option("--api-key", metavar="KEY", envvar="PORTICO_API_KEY", show_envvar=True,
              help="With --console: the key that it shows, where PORTICO_API_KEYS holds hashes only.")  # fmt: skip
@click.option("--supervised", hidden=True, help="What the supervisor tells the processes that it starts.")
@click.option("--at-a-console", is_flag=True, hidden=True, help="What --console tells the gateway that it starts.")
def serve(
    host: str | None,
    port: int | None,
    websocket_port: str | None,
    worker_port: str | None,
    workers: str | None,
    console: bool,
    api_key: str | None,
    supervised: str | None,
    at_a_console: bool,
) -> None:
    """Run the gateway until Ctrl-C or SIGTERM.

    Settings come from the environment and a .env file; these options win over both. --port doesn't switch
    to production; PORT in the environment does. `portico check` prints the settings in force.

    On the first signal every connection is closed within PORTICO_DRAIN_SECONDS; on the second the gateway
    ends at once. With --workers, SIGHUP replaces the processes one after another, and one that dies is
    started again. Without, SIGHUP has the certificate read again, where PORTICO_TLS_CERT is set.

    Exit code 0 after a signal, 1 if the gateway failed, 2 if it cannot start: standard error says why.
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
    settings = load_settings(overrides | ({} if workers is None else {"PORTICO_WORKERS": workers}))
    arguments = [part for option, (_, value) in given.items() for part in (option, value)]
    if console:
        sys.exit(_serve_beside(settings, arguments, workers, api_key))
    if settings.workers > 1:
        sys.exit(_supervise(settings, arguments))
    with without_rich(), without_collections():
        from service.serving import serve as run_gateway  # the other commands start faster without the gateway

    sys.exit(run_gateway(settings, at_a_console=at_a_console))


def _serve_beside(settings: Settings, arguments: list[str], workers: str | None, api_key: str | None) -> int:
    """Serve in another process, and be a console to it."""
    if settings.api_type == "websocket":
        fail(WRONG, "--console needs the HTTP API, which is not here (API_TYPE=websocket): start it where it is.")
    from service.core.api_keys import is_line

    from .addressing import key_of
    from .again import portico_again
    from .console.beside import serve_beside

    # A setting that is a key's hash opens nothing here.
    keys = [text for key in settings.api_keys if not is_line(text := key.get_secret_value())]
    if workers is not None:
        arguments = [*arguments, "--workers", workers]
    return serve_beside(
        settings, [*portico_again(), "serve", "--at-a-console", *arguments], key_of(keys[0] if keys else api_key)
    )


def _serve_supervised(place: str, overrides: dict[str, str]) -> int:
    """Be one of a supervisor's processes. `place`: what it said, as `service.supervision.link` has it."""
    from service.supervision.link import Supervised

    try:
        link = Supervised(place)
    except ValueError as error:
        raise click.UsageError(f"--supervised: {error}.") from error
    try:
        settings = Settings.load(overrides=overrides | {"PORTICO_NAME": link.name})
    except SettingsError as error:
        link.say("failed", *error.problems)
        fail(WRONG, *error.problems)
    with without_rich(), without_collections():
        from service.serving import serve as run_gateway

    return run_gateway(settings, link)


def _supervise(settings: Settings, options: list[str]) -> int:
    """Run several processes, each with `options`, and return the exit code."""
    with without_rich():
        from service.observe import make_log
    from service.supervision.ports import Ports
    from service.supervision.private_redis import PrivateRedis
    from service.supervision.supervisor import Supervisor

    numbers = {"http": settings.port, "websocket": settings.websocket_port, "worker": settings.worker_port}
    numbers["redirect"] = settings.redirect_port
    redis = None
    if settings.redis_url is None:
        try:
            redis = PrivateRedis()
        except OSError as error:
            fail(WRONG, str(error))
    supervisor = Supervisor(
        workers=settings.workers,
        name=settings.name,
        options=options,
        ports=Ports(
            settings.host,
            {kind: number for kind, number in numbers.items() if number is not None},
            {
                "http": "PORT",
                "websocket": "WEBSOCKET_PORT",
                "worker": "WORKER_PORT",
                "redirect": "PORTICO_REDIRECT_PORT",
            },
        ),
        redis=redis,
        drain_seconds=settings.drain_seconds,
        log=make_log(settings.log_format, settings.log_level, node=lambda: settings.name),
    )
    return trio.run(supervisor.run)
