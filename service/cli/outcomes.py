"""How a command ends: its exit code, and the sentences on standard error that say why, and what helps.

The codes are the same for every command: 0 for success, 1 for an error answer, 2 for something wrong in what was
given, 3 for a gateway that cannot be reached or refuses us, 130 after Ctrl-C, 143 after SIGTERM where it is heeded.
"""

import sys
from collections.abc import Awaitable, Callable
from typing import Final, NoReturn

import click
import trio

from portico.client.errors import (
    BadAddress,
    ClientError,
    DiscoveryFailed,
    GaveUp,
    HandshakeRefused,
    MessageTooLarge,
    RegistrationRejected,
    RequestFailed,
    SentAway,
    Unreachable,
    Unsendable,
)
from portico.client.scheme import REMEDY, tls_reason
from portico.publisher.answers import Refused
from portico.wire.codes import CloseCode

FAILED: Final = 1
WRONG: Final = 2
UNREACHABLE: Final = 3
INTERRUPTED: Final = 130
TERMINATED: Final = 143

API_KEY: Final = "Give one of the gateway's PORTICO_API_KEYS with --api-key, or set PORTICO_API_KEY."
HANDSHAKE_KEY: Final = (
    "Give the gateway's WEBSOCKET_HANDSHAKE_KEY with --handshake-key, or set WEBSOCKET_HANDSHAKE_KEY; the gateway "
    "itself needs one too."
)
TOKEN: Final = "Give a token with --token, or set PORTICO_TOKEN."
BASE_URL: Final = "Is a gateway running there? --base-url, or GATEWAY_URL in the environment, says where it is."
CA_FILE: Final = "--ca-file, or SSL_CERT_FILE in the environment, says whose certificates to trust."
NO_TLS: Final = "No TLS is spoken there: give the address with http:// (or ws://)."
_TLS_HINTS: Final[dict[str | None, str]] = {"CERTIFICATE_VERIFY_FAILED": CA_FILE, "WRONG_VERSION_NUMBER": NO_TLS}


def fail(code: int, *sentences: str) -> NoReturn:
    """End with an exit code, having said why: a line for each sentence."""
    for sentence in sentences:
        click.echo(f"portico: {sentence}", err=True)
    sys.exit(code)


def explain(error: Exception, secret: str = API_KEY) -> tuple[int, str]:
    """The exit code that an error stands for, and what is wrong, with what helps where we know it.

    `secret`: what to say where the gateway wants to see one, since it depends on what the command is.
    """
    said = str(error)
    if isinstance(error, Refused):
        return _explain_refused(error, said, secret)
    if isinstance(error, RequestFailed):
        return FAILED, said
    if isinstance(error, BadAddress | Unsendable | MessageTooLarge):
        return WRONG, said
    if isinstance(error, SentAway) and error.code in (CloseCode.NOT_AUTHENTICATED, CloseCode.NOT_ALLOWED):
        return UNREACHABLE, f"{said} {secret}"
    if isinstance(error, HandshakeRefused) and error.status in (401, 403):
        return UNREACHABLE, f"{said} {secret}"
    if isinstance(error, RegistrationRejected) and error.reason in ("unauthorized", "forbidden"):
        return UNREACHABLE, f"{said} {secret}"
    last = error.__cause__ if isinstance(error, GaveUp) else error
    # Discovery that was answered, by something else than a gateway, says so itself.
    answered = isinstance(last, DiscoveryFailed) and last.__cause__ is None
    if not isinstance(last, Unreachable) or answered or REMEDY in said:
        return UNREACHABLE, said
    return UNREACHABLE, f"{said} {_TLS_HINTS.get(tls_reason(last), BASE_URL)}"


def _explain_refused(error: Refused, said: str, secret: str) -> tuple[int, str]:
    if error.status in (401, 403):
        return UNREACHABLE, f"{said} {secret}"
    if error.status == 426:
        return UNREACHABLE, (
            "This is a port for WebSockets, which has no HTTP API: give --base-url the gateway's HTTP address, such as "
            "http://localhost:8000."
        )
    if error.status == 400:
        return WRONG, said
    return (FAILED if error.status in (404, 409) and error.code != "internal" else UNREACHABLE), said


def run(program: Callable[[], Awaitable[int]], *, secret: str = API_KEY) -> NoReturn:
    """Run an async program and end with the exit code that it returns, or that its error stands for.

    `secret`: as for `explain`.
    """
    try:
        code = trio.run(program)
    except ClientError as error:
        fail(*explain(error, secret))
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except BaseExceptionGroup as group:
        # Ctrl-C is raised in whichever task happens to run, and comes out in the groups of its nurseries.
        if group.split(KeyboardInterrupt)[1] is not None:
            raise
        sys.exit(INTERRUPTED)
    sys.exit(code)
