"""`portico`: the gateway and its companions from the command line. One module for each command.

A command turns arguments into a call, and what comes of it into an exit code (`outcomes`). Standard output carries
answers only; progress and errors go to standard error. No outcome of any command is a traceback.
"""

import click

from portico.version import VERSION
from service.standard_streams import open_standard_streams

from . import check, request, serve, token, worker

__all__ = ["main"]


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(VERSION, prog_name="portico", message="%(prog)s %(version)s")
def main() -> None:
    """A real-time gateway: pushes to connected people and devices, requests to connected workers.

    `portico COMMAND --help` says more about each command.
    """
    open_standard_streams()


for _command in (serve.serve, check.check, worker.worker, request.request, token.token):
    main.add_command(_command)
