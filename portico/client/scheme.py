"""Scheme: why a connection with the wrong one of http:// and https:// (ws:// and wss://) fails, as a sentence's end.

Over TLS to a port without it, OpenSSL says so. The other way round, a server that speaks TLS mostly closes the
connection without a word. So where HTTP is answered that way the port is tried once more, with a TLS handshake in which
nothing is trusted and after which nothing is said. For example, a gateway with a certificate is recognized so at
`http://localhost:8443`. A WebSocket that ends so only gets a hint: programs connect again and again to a gateway that
is being restarted, and must not connect twice as often.
"""

import ssl
from typing import Final
from urllib.parse import urlsplit

import trio

from .errors import reason_of

REMEDY: Final = "give the address with"
NO_TLS: Final = f"no TLS is spoken there; {REMEDY} http:// (or ws://)"
TLS: Final = f"TLS is spoken there; {REMEDY} https:// (or wss://)"
PATIENCE: Final = 5.0
"""Seconds that the port is given to answer."""
_DEEPEST_CAUSE: Final = 16
_MOST_KNOWN: Final = 64
_NO_TLS_REASONS: Final = frozenset({"WRONG_VERSION_NUMBER", "PACKET_LENGTH_TOO_LONG", "RECORD_LAYER_FAILURE"})
_known: dict[str, bool] = {}  # whether TLS is spoken, by host and port


async def why_unanswered(url: str, error: BaseException, *, silent: bool) -> str:
    """Why a request to `url` failed, printable and without a full stop: what is right, where its scheme is wrong.
    `silent`: there was a connection, and no answer. Takes at most PATIENCE seconds. Cancelling is safe."""
    return TLS if silent and await is_meant_for_tls(url) else _why(url, error)


def why_not_connected(url: str, error: BaseException, *, silent: bool) -> str:
    """The same for a WebSocket, without another connection: that TLS may be spoken there is a hint."""
    why = _why(url, error)
    return f"{why.removesuffix('.')} (where TLS is spoken, wss:// is right)" if silent and not _is_secure(url) else why


async def is_meant_for_tls(url: str) -> bool:
    """Whether a URL without TLS leads to a port with it. Tried once for each host and port, since a program may ask
    again and again; takes at most PATIENCE seconds. Cancelling is safe."""
    if _is_secure(url):
        return False
    there = urlsplit(url).netloc
    if there not in _known:
        if len(_known) >= _MOST_KNOWN:
            _known.clear()
        _known[there] = await speaks_tls(url)
    return _known[there]


def _why(url: str, error: BaseException) -> str:
    return NO_TLS if _is_secure(url) and tls_reason(error) in _NO_TLS_REASONS else reason_of(error)


def _is_secure(url: str) -> bool:
    return url.startswith(("https:", "wss:"))


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
