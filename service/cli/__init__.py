"""`portico`: the gateway and its companions from the command line. One module for each command, or for a few.

A command turns arguments into a call, and what comes of it into an exit code (`outcomes`). Standard output carries
answers only; progress and errors go to standard error. No outcome of any command is a traceback. A command's module is
imported when it is wanted, so that none pays for what another needs.
"""

import os
from importlib import import_module
from typing import Any, Final

import click

from portico.version import VERSION
from service.collector import without_collections
from service.standard_streams import open_standard_streams

__all__ = ["main"]

# In the order in which help lists them: the module below this package, and what is in it.
COMMANDS: Final = {
    "serve": "serve:serve",
    "check": "check:check",
    "console": "console.command:console",
    "worker": "worker:worker",
    "request": "request:request",
    "connect": "connect:connect",
    "listen": "listen:listen",
    "push": "pushing:push",
    "broadcast": "pushing:broadcast",
    "send": "pushing:send",
    "login": "pushing:login",
    "logout": "pushing:logout",
    "logins": "pushing:logins",
    "clients": "people:clients",
    "workers": "people:workers",
    "kick": "people:kick",
    "tail": "tail:tail",
    "status": "people:status",
    "token": "token:token",
    "plan": "plan:plan",
    "completion": "completion:completion",
}


class _Commands(click.Group):
    """A group whose commands are imported when they are asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        place = COMMANDS.get(cmd_name)
        if place is None:
            return None
        module, _, name = place.partition(":")
        with without_collections():
            found = getattr(import_module(f"{__name__}.{module}"), name)
        command: click.Command = getattr(found, "script", found)  # an Operation has two forms
        return command

    def main(self, *args: Any, **extra: Any) -> Any:
        """Run a command. Where its answer can't be written (a full disk, say) that is a sentence and exit code 1."""
        try:
            return super().main(*args, **extra)
        except (OSError, ExceptionGroup) as raised:
            error: Exception = raised
            while isinstance(error, ExceptionGroup) and len(error.exceptions) == 1:
                error = error.exceptions[0]
            if not isinstance(error, OSError):
                raise
            from .outcomes import FAILED, fail  # it needs trio

            # What is buffered still would be written again at the interpreter's end, and fail again.
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            fail(FAILED, f"{error.strerror or error}: an answer, or a file, could not be written or read.")


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(VERSION, prog_name="portico", message="%(prog)s %(version)s")
def main() -> None:
    """A real-time gateway: pushes to connected people and devices, requests to connected workers.

    `portico COMMAND --help` says more about each command.
    """
    open_standard_streams()
