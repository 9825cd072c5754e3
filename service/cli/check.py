"""`portico check`: the settings in force, and whether the gateway would start with them."""

import click
import trio

from service.settings import Settings

from .outcomes import WRONG, fail
from .settings import load_settings


@click.command()
def check() -> None:
    """Print the settings in force, and what is wrong with them.

    Secrets are masked. Extensions are imported and called, as at a start; Redis is asked whether it can be relied on.

    Exit code 0 if `portico serve` would start with these settings, 2 if it would end with 2, and with the
    same sentence. A port that is in use is a warning only, since this gateway may be running.
    """
    settings = load_settings()
    rows = settings.describe()
    names, values = (max(len(getattr(row, column)) for row in rows) for column in ("name", "value"))
    for row in rows:
        click.echo(f"{row.name:<{names}}  {row.value:<{min(values, 40)}}  {row.source}")
    for warning in [*settings.warnings(), *_rehearse(settings)]:
        click.echo(f"warning: {warning}")


def _rehearse(settings: Settings) -> list[str]:
    """Start as far as can be without being noticed, and return what to warn of. Ends with exit code 2 if it fails."""
    from service.assembly import StartError  # after the settings: the gateway takes a moment to import
    from service.serving import rehearse
    from service.supervision.private_redis import find_redis_server

    redis: list[str] = []
    try:
        if settings.workers > 1 and settings.redis_url is None:
            find_redis_server()
        warnings = trio.run(rehearse, settings)
        if settings.redis_url is not None:
            redis = trio.run(_examine_redis, settings.redis_url.get_secret_value(), settings.redis_prefix)
    except (StartError, FileNotFoundError) as error:
        fail(WRONG, str(error))
    return [*warnings, *redis]


async def _examine_redis(url: str, prefix: str) -> list[str]:
    from service.backplane.deployment import examine_redis

    return await examine_redis(url, prefix)
