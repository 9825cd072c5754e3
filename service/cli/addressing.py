"""The options that say which gateway a command talks to: `--url`, `--base-url` and `--ca-file`."""

import ssl
from collections.abc import Callable
from typing import Final, TypedDict

import click

from portico.client.errors import printable

from .outcomes import WRONG, fail

DEFAULT_BASE_URL: Final = "http://localhost:8000"


class Address(TypedDict, total=False):
    """The address as the client classes take it: one of the two."""

    url: str
    base_url: str


def address_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options `url`, `base_url` and `ca_file`."""
    command = click.option(
        "--ca-file",
        type=click.Path(exists=True, dir_okay=False),
        metavar="FILE",
        help="Certificates, in PEM form, to trust over https and wss; those of the system if absent.",
    )(command)
    command = click.option(
        "--base-url",
        metavar="URL",
        help=f"The gateway's HTTP address; discovery there says where its WebSocket is.  [default: {DEFAULT_BASE_URL}]",
    )(command)
    return click.option("--url", metavar="URL", help="The WebSocket address itself, such as ws://localhost:8766.")(
        command
    )


def address(url: str | None, base_url: str | None) -> Address:
    """The address that was given, or the default. Ends with exit code 2 if both were."""
    if url is not None and base_url is not None:
        raise click.UsageError("Give --url or --base-url, not both.")
    if url is not None:
        return {"url": url}
    return {"base_url": base_url or DEFAULT_BASE_URL}


def trusted(ca_file: str | None) -> ssl.SSLContext | None:
    """TLS that trusts the certificates in a file; None for those of the system. Ends with exit code 2 for no PEM."""
    if ca_file is None:
        return None
    try:
        return ssl.create_default_context(cafile=ca_file)
    except OSError:  # ssl.SSLError is one
        fail(WRONG, f"{printable(repr(ca_file))} holds no certificates in PEM form: give --ca-file a file that does.")
