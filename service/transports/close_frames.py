"""WebSocket Close frames as bytes: writing our own, and finding the peer's among what is not read any more.

Sans-I/O. Source: RFC 6455 sections 5.2 and 5.5.1.
"""

from typing import Final

CLOSE: Final = 0x88
"""The first byte of a Close frame."""


def close_frame(code: int, reason: str) -> bytes:
    """A server's Close. The reason is cut to the 123 bytes that it may have."""
    text = reason.encode("utf-8", "replace")
    if len(text) > 123:
        text = text[:123].decode("utf-8", "ignore").encode()
    return bytes((CLOSE, 2 + len(text))) + code.to_bytes(2, "big") + text


def skip_to_close(data: bytes, missing: int) -> tuple[bytes, int, bool]:
    """Pass over frames, whatever is in them, in search of a Close.

    `missing` bytes at the beginning still belong to a frame that was passed over. Returns what is left of
    `data` (less than a frame's head), how many bytes are missing now, and whether there was a Close.
    """
    end = len(data)
    position = min(missing, end)
    missing -= position
    while end - position >= 2:
        length = data[position + 1] & 0x7F
        start = 2 + (8 if length == 127 else 2 if length == 126 else 0)
        if end - position < start:
            break
        if data[position] & 0x0F == 0x8:
            return b"", 0, True
        size = int.from_bytes(data[position + 2 : position + start], "big") if length > 125 else length
        whole = start + size + (4 if data[position + 1] & 0x80 else 0)
        step = min(whole, end - position)
        missing = whole - step
        position += step
    return data[position:], missing, False
