"""The options that say who a client is: `--user-id`, `--client-id`, …, and the token that proves it."""

from collections.abc import Callable
from typing import Any, Final, TypeVar

import click

from portico.wire.messages import IDENTITY_FIELDS, Identity

C = TypeVar("C", bound=Callable[..., Any])

_MEANINGS: Final = {
    "client_id": "The client's own id; the gateway makes one if absent.",
    "user_id": "The user whom it belongs to.",
    "username": "How the user is called.",
}


def identity_options(command: C) -> C:
    """Give a command an option for each identity field, and `token`."""
    command = click.option(
        "--token", metavar="TOKEN", envvar="PORTICO_TOKEN", show_envvar=True, help="A token that proves who it is."
    )(command)
    for name in reversed(IDENTITY_FIELDS):
        about = _MEANINGS.get(name, f"Its {name.removesuffix('_id')}: an address for pushes.")
        command = click.option(f"--{name.replace('_', '-')}", metavar="ID", help=about)(command)
    return command


def identity_of(options: dict[str, Any]) -> Identity:
    """The identity that the options say; they are taken out of `options`."""
    return Identity(**{name: options.pop(name) for name in IDENTITY_FIELDS})
