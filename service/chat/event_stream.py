"""Server-sent events out of bytes, as the HTML standard has them (section 9.2, "Server-sent events"); sans-I/O.

Only `data` is kept: no other field is used by this kind of API. What one event may have is bounded; beyond that it is
TooLarge.
"""

from typing import Final

LARGEST: Final = 2**20
"""Bytes that one event may have."""
_BOM: Final = b"\xef\xbb\xbf"


class TooLarge(Exception):
    """One event is larger than LARGEST."""


class EventStream:
    """One stream: bytes in, the data of whole events out."""

    def __init__(self, largest: int = LARGEST) -> None:
        self._largest = largest
        self._line = bytearray()  # one that has no end yet
        self._looked = 0  # bytes of it that have no line break
        self._data: list[bytes] = []
        self._size = 0
        self._begun = False
        self._after_return = False

    def feed(self, chunk: bytes) -> list[bytes]:
        """The data of the events that end in this chunk; what is empty (a comment, a lone field) is none.

        Raises TooLarge, after which the stream is of no use any more.
        """
        events: list[bytes] = []
        line = self._line
        line += chunk
        at = 0
        if self._after_return and line:
            self._after_return = False
            at = line.startswith(b"\n")
        looked = max(self._looked, at)
        while (end := _line_end(line, looked)) >= 0:
            self._take(bytes(line[at:end]), events)
            at = end + 1
            if line[end] == 13:  # CR, perhaps with an LF after it
                if at == len(line):
                    self._after_return = True
                elif line[at] == 10:
                    at += 1
            looked = at
        del line[:at]
        self._looked = len(line)
        if len(line) + self._size > self._largest:
            raise TooLarge
        return events

    def _take(self, line: bytes, events: list[bytes]) -> None:
        if not self._begun:
            self._begun = True
            line = line.removeprefix(_BOM)
        if not line:
            if self._data:
                events.append(b"\n".join(self._data))
                self._data.clear()
                self._size = 0
            return
        field, _, value = line.partition(b":")
        if field != b"data":
            return
        self._data.append(value.removeprefix(b" "))
        self._size += len(value) + 1
        if self._size > self._largest:
            raise TooLarge


def _line_end(line: bytearray, start: int) -> int:
    feed, back = line.find(b"\n", start), line.find(b"\r", start)
    return feed if back < 0 else back if feed < 0 else min(feed, back)
