"""Scheme: why a connection with the wrong one of http:// and https:// (ws:// and wss://) fails, as a sentence's end.

Over TLS to a port without it, OpenSSL says so. The other way round, a server that speaks TLS mostly closes the
connection without a word. So where that happens the port is tried once more, with a TLS handshake in which nothing is
trusted and after which nothing is said. For example, a gateway with a certificate is recognized so at
`http://localhost:8443`.
"""

import ssl
from typing import Final
from urllib.parse import urlsplit

import httpx
import trio
from websockets.exceptions import InvalidMessage

from .errors import reason_of

REMEDY: Final = "give the address with"
NO_TLS: Final = f"no TLS is spoken there; {REMEDY} http:// (or ws://)"
TLS: Final = f"TLS is spoken there; {REMEDY} https:// (or wss://)"
PATIENCE: Final = 5.0
"""Seconds that the port is given to answer."""
_DEEPEST_CAUSE: Final = 16
_NO_TLS_REASONS: Final = frozenset({"WRONG_VERSION_NUMBER", "PACKET_LENGTH_TOO_LONG", "RECORD_LAYER_FAILURE"})
_UNANSWERED: Final = (
    httpx.RemoteProtocolError,
    httpx.ReadError,
    InvalidMessage,
    EOFError,
    ConnectionResetError,
    trio.BrokenResourceError,
)
"""What it looks like that there was a connection, and no answer."""


async def why_unanswered(url: str, error: BaseException) -> str:
    """Why a connection to `url` failed, printable and without a full stop: what is right, where its scheme is wrong.
    Takes at most PATIENCE seconds. Cancelling is safe."""
    if url.startswith(("https:", "wss:")):
        return NO_TLS if tls_reason(error) in _NO_TLS_REASONS else reason_of(error)
    return TLS if isinstance(error, _UNANSWERED) and await speaks_tls(url) else reason_of(error)


def tls_reason(error: BaseException | None) -> str | None:
    """OpenSSL's name for what TLS failed by, somewhere below this error: a certificate that we don't trust, say."""
    for _ in range(_DEEPEST_CAUSE):
        if error is None:
            break
        if isinstance(error, ssl.SSLError):
            return "CERTIFICATE_VERIFY_FAILED" if isinstance(error, ssl.SSLCertVerificationError) else error.reason
        error = error.__cause__ or error.__context__
    return None


async def speaks_tls(url: str) -> bool:
    """Whether a TLS server is at the host and port of a URL. Never raises; takes at most PATIENCE seconds."""
    parts = urlsplit(url)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with trio.move_on_after(PATIENCE):
        try:
            stream = await trio.open_tcp_stream(parts.hostname or "", parts.port or 80)
            async with stream:
                await trio.SSLStream(stream, context, server_hostname=parts.hostname).do_handshake()
        except (OSError, trio.BrokenResourceError):
            return False
        else:
            return True
    return False
