"""Connections to a test's Redis."""

from service.observe import make_log
from service.redis.commands import Commands
from service.redis.urls import read_url


def link(url: str) -> Commands:
    """A connection for commands, to be run."""
    return Commands(read_url(url), log=make_log("json", "critical"))
