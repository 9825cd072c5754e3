"""Requests on which HTTP/1.1 parsers are known to disagree, and sound ones beside them; each a connection's bytes."""

from typing import Final

_SECOND: Final = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"


def _post(*fields: bytes, body: bytes = b"") -> bytes:
    return b"\r\n".join((b"POST /api/notifications HTTP/1.1", b"Host: x", *fields, b"", body))


_SMUGGLED: Final = b"0\r\n\r\n" + _SECOND

HOSTILE: Final = [
    # A length beside a coding, and two of either.
    _post(b"Content-Length: 5", b"Transfer-Encoding: chunked", body=_SMUGGLED),
    _post(b"Transfer-Encoding: chunked", b"Content-Length: 5", body=_SMUGGLED),
    _post(b"Content-Length: 5", b"Content-Length: 5", body=b"12345" + _SECOND),
    _post(b"Content-Length: 5", b"Content-Length: 0", body=b"12345" + _SECOND),
    _post(b"Content-Length: 5, 5", body=b"12345" + _SECOND),
    _post(b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity", body=_SMUGGLED),
    _post(b"Transfer-Encoding: chunked, identity", body=_SMUGGLED),
    _post(b"Transfer-Encoding: xchunked", body=_SMUGGLED),
    _post(b"Transfer-Encoding: \x0bchunked", body=_SMUGGLED),
    _post(b"Transfer-Encoding : chunked", body=_SMUGGLED),
    _post(b"Transfer-Encoding\t: chunked", body=_SMUGGLED),
    _post(b" Transfer-Encoding: chunked", body=_SMUGGLED),
    _post(b"X: y\r\n Transfer-Encoding: chunked", body=_SMUGGLED),
    _post(b"X: y\r\n\tz", body=b""),
    _post(b"X: y\nContent-Length: 5", body=b"12345"),
    _post(b"X: y\rContent-Length: 5", body=b"12345"),
    _post(b"X: y\x00z"),
    _post(b"X: \xff"),
    _post(b": y"),
    _post(b"no colon"),
    # Lengths that are no plain number.
    *(
        _post(b"Content-Length: " + length, body=b"12345")
        for length in (b"+5", b"-5", b"5 0", b"0x5", b"5.", b"5e0", b"1_0", b"\xd9\xa5", b"", b"9" * 40)
    ),
    _post(b"Content-Length : 5", body=b"12345"),
    # Lines that end otherwise.
    b"GET /livez HTTP/1.1\nHost: x\n\n",
    b"GET /livez HTTP/1.1\r\nHost: x\n\r\n",
    b"GET /livez HTTP/1.1\r\nHost: x\n\n",
    b"GET /livez HTTP/1.1\r\r\nHost: x\r\n\r\n",
    b"\r\n\r\nGET /livez HTTP/1.1\r\nHost: x\r\n\r\n",
    b"\rGET /livez HTTP/1.1\r\nHost: x\r\n\r\n",
    b"\nGET /livez HTTP/1.1\r\nHost: x\r\n\r\n",
    b"\r\n\nGET /livez HTTP/1.1\r\nHost: x\r\n\r\n",
    # Request lines.
    b"GET  /livez HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /livez\r\n\r\n",
    b"GET\t/livez\tHTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /li vez HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET livez HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /livez HTTP/1.2\r\nHost: x\r\n\r\n",
    b"GET /livez HTTP/1.1 \r\nHost: x\r\n\r\n",
    b"GET /livez http/1.1\r\nHost: x\r\n\r\n",
    b"G@T /livez HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /livez HTTP/1.1\r\n\r\n",
    b"GET /livez HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
    # Chunks.
    *(
        _post(b"Transfer-Encoding: chunked", body=body)
        for body in (
            b"5\n12345\n0\n\n",
            b"5\r\n123456\r\n0\r\n\r\n",
            b"5\r\n12345\n0\r\n\r\n",
            b"+5\r\n12345\r\n0\r\n\r\n",
            b"0x5\r\n12345\r\n0\r\n\r\n",
            b"-0\r\n\r\n",
            b" 0\r\n\r\n",
            b"\r\n0\r\n\r\n",
            b"fffffffffffffffff\r\n",
            b"0\r\nContent Length: 5\r\n\r\n",
            b"0\r\n\n",
            b"g\r\n",
        )
    ),
    b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n" + _SMUGGLED,
]
"""What has to be refused (400, or 501 and 505 where the reason is a coding or a version), and the connection closed."""

SOUND: Final = [
    _SECOND,
    b"HEAD /livez HTTP/1.1\r\nhost:x\r\n\r\n",
    _post(b"Content-Length: 5", body=b"12345"),
    _post(b"content-length:\t5\t", body=b"12345"),
    _post(b"Content-Length: 000005", body=b"12345"),
    _post(b"Transfer-Encoding: chunked", body=b"5\r\n12345\r\n0\r\n\r\n"),
    _post(b"Transfer-Encoding: CHUNKED", body=b'005;a=b;c="d"\r\n12345\r\n0\r\nX: y\r\n\r\n'),
    _post(b"X:", b"Y: \t", b"Content-Length: 0"),
    b"\r\n" + _SECOND,  # RFC 9112 section 2.2
]
"""What every parser reads in the same way; followed by another, too."""
