"""Answer end: whether the bytes that came are one answer and nothing behind it.

httpcore keeps what it has read behind an answer, and takes it for the answer to the next request on that connection. A
server that can be made to send two answers for one question (by a line break that it copies into a header, say) would
then say of one client what it was asked about another. So a connection is used again only where its last answer ended
with the last byte that had come.

For example, an answer with `Content-Length: 2` and four bytes behind its head is two bytes too long. What isn't plain
(an interim answer ahead of it, trailers, line ends without CR) counts as too long: that costs a connection, no more.

Source: RFC 9112, sections 6 and 7.1.
"""

_END_OF_HEAD = b"\r\n\r\n"


def ends_with_answer(came: bytes, status: int, headers: dict[str, str]) -> bool:
    """Whether `came` is exactly one answer: the one of this status and with these headers (names in lower case)."""
    head, found, body = came.partition(_END_OF_HEAD)
    if not found or head.count(b"\n") != head.count(b"\r\n"):
        return False
    if status in (204, 304):
        return not body
    if "transfer-encoding" in headers:
        return _ends_with_last_chunk(body)
    return headers.get("content-length") == str(len(body))


def _ends_with_last_chunk(body: bytes) -> bool:
    at = 0
    while True:
        line, found, _ = body[at : at + 64].partition(b"\r\n")
        try:
            size = int(line, 16) if found else -1
        except ValueError:  # an extension, say
            return False
        if size < 0:
            return False
        at += len(line) + 2 + size + 2
        if size == 0:
            return at == len(body) and body.endswith(_END_OF_HEAD)
