"""The options that say which gateway a command talks to, and prove that it may: addresses, certificates, keys.

Commands that connect by WebSocket take `--url` or `--base-url`; those that only use the HTTP API take `--base-url`.
"""

import os
import ssl
from collections.abc import Callable
from typing import Any, Final, TypedDict, TypeVar

import click

from portico.client.address import locate
from portico.client.errors import printable
from portico.publisher.calls import headers_for

from .outcomes import WRONG, fail

DEFAULT_BASE_URL: Final = "http://localhost:8000"
BASE_URL_VARIABLE: Final = "GATEWAY_URL"
_BASE_URL_DEFAULT: Final = f"[env var: {BASE_URL_VARIABLE}; default: {DEFAULT_BASE_URL}]"
KEY_VARIABLES: Final = ["PORTICO_API_KEY", "GATEWAY_API_KEY"]

C = TypeVar("C", bound=Callable[..., Any])

_ca_file = click.option(
    "--ca-file",
    type=click.Path(exists=True, dir_okay=False),
    metavar="FILE",
    help="Certificates, in PEM form, to trust over https and wss; those of the system if absent.",
)
api_key_option = click.option(
    "--api-key",
    metavar="KEY",
    envvar=KEY_VARIABLES,
    show_envvar=True,
    help="One of the gateway's PORTICO_API_KEYS, or for request a requester's token. The environment is the better "
    "place: others may see command lines.",
)


class Address(TypedDict, total=False):
    """The address as the client classes take it: one of the two."""

    url: str
    base_url: str


def http_address_options(command: C) -> C:
    """Give a command the options `base_url` and `ca_file`."""
    command = _ca_file(command)
    return click.option("--base-url", metavar="URL", help=f"The gateway's HTTP address.  {_BASE_URL_DEFAULT}")(command)


def address_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options `url`, `base_url` and `ca_file`."""
    command = _ca_file(command)
    command = click.option(
        "--base-url",
        metavar="URL",
        help=f"The gateway's HTTP address; discovery there says where its WebSocket is.  {_BASE_URL_DEFAULT}",
    )(command)
    return click.option("--url", metavar="URL", help="The WebSocket address itself, such as ws://localhost:8766.")(
        command
    )


def default_base_url() -> str:
    """The address of a command that was given none.

    The environment's is a default and no option of click's: `--url` beside it is no contradiction, and a Worker that
    was made with an address of its own keeps it.
    """
    return os.environ.get(BASE_URL_VARIABLE) or DEFAULT_BASE_URL


def address(url: str | None, base_url: str | None) -> Address:
    """The address that was given, or the default. Ends with exit code 2 if both were."""
    if url is not None and base_url is not None:
        raise click.UsageError("Give --url or --base-url, not both.")
    if url is not None:
        return {"url": url}
    return {"base_url": base_url or default_base_url()}


async def find(where: Address, ssl_context: ssl.SSLContext | None) -> None:
    """Ask for the WebSocket's address once, so that a command which would try for ever says at once that nobody is
    there. Raises DiscoveryFailed or BadAddress."""
    await locate(**where, ssl_context=ssl_context).find()


def trusted(ca_file: str | None) -> ssl.SSLContext | None:
    """TLS that trusts the certificates in a file; None for those of the system. Ends with exit code 2 for no PEM."""
    if ca_file is None:
        return None
    try:
        return ssl.create_default_context(cafile=ca_file)
    except OSError:  # ssl.SSLError is one
        fail(WRONG, f"{printable(repr(ca_file))} holds no certificates in PEM form: give --ca-file a file that does.")


def key_of(api_key: str | None) -> str | None:
    """The key, if there is one. Ends with exit code 2 for what no header can hold."""
    try:
        headers_for(api_key or None)
    except ValueError as error:
        fail(WRONG, f"{error} Look at --api-key, or at PORTICO_API_KEY in the environment.")
    return api_key or None
