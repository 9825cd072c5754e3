"""Connections to a test's Redis, with nothing said on them beforehand."""

from service.observe import make_log
from service.redis.commands import AskAll, Commands
from service.redis.urls import read_url


async def _nothing(_: AskAll) -> None:
    pass


def link(url: str) -> Commands:
    """A connection for commands, to be run."""
    return Commands(read_url(url).dial, prepare=_nothing, log=make_log("json", "critical"))
