"""Connections to a test's Redis, with nothing said on them beforehand."""

from service.backplane.redis.commands import AskAll, Commands
from service.backplane.redis.urls import read_url
from service.observe import make_log


async def _nothing(_: AskAll) -> None:
    pass


def link(url: str) -> Commands:
    """A connection for commands, to be run."""
    return Commands(read_url(url).dial, prepare=_nothing, log=make_log("json", "critical"))
