"""An HttpAnswer as the bytes of an HTTP/1.1 response; sans-I/O.

Adds what every response has: its length, the date, NOSNIFF, and `Connection: close` where the connection ends with it.
Knows nothing of the connection that it goes out on.
"""

import time
from email.utils import formatdate
from functools import lru_cache

from service.core.ports import NOSNIFF, HttpAnswer


def render(answer: HttpAnswer, *, without_body: bool, close: bool) -> bytes:
    """A whole response. `without_body`: to HEAD, with the length that the body would have."""
    status, headers, body = answer
    start = _beginning(status, headers)
    length = b"" if status in (204, 304) else b"content-length: %d\r\n" % len(body)
    end = b"connection: close\r\n\r\n" if close else b"\r\n"
    return b"".join((start, length, _date(), end, b"" if without_body else body))


@lru_cache(maxsize=512)  # most answers differ by their bodies only
def _beginning(status: int, headers: tuple[tuple[str, str], ...]) -> bytes:
    lines = [f"HTTP/1.1 {status} \r\n", *(f"{name}: {value}\r\n" for name, value in (NOSNIFF, *headers))]
    return "".join(lines).encode("latin-1", "replace")


_dated: tuple[int, bytes] = (0, b"")


def _date() -> bytes:
    """The line with the date, made once a second."""
    global _dated
    second = int(time.time())
    if _dated[0] != second:
        _dated = (second, f"date: {formatdate(second, usegmt=True)}\r\n".encode())
    return _dated[1]
