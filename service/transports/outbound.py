"""Writing a queue of frames to a descriptor: as few calls and copies as will do.

Knows bytes and one descriptor; what waits and what that means is the connection's. Frames are shared by
every connection that they go to, so they are joined only up to a bounded size, and big ones never.
"""

import os
from typing import Final

_GATHER: Final = 65536  # bytes that small frames are joined up to, for one write
_TURN: Final = 1 << 20  # bytes that one connection gets written before others have their turn


def write_queue(fd: int, queue: list[bytes], offset: int) -> tuple[int, int, int]:
    """Write what the kernel takes of `queue`, of whose first frame `offset` bytes are out already.

    Returns how many frames are out whole, how many bytes of the next, and how many bytes were written.
    Raises OSError if the connection is broken; a kernel that takes nothing is no error.
    """
    total = 0
    done = 0
    count = len(queue)
    while done < count and total < _TURN:
        first = queue[done]
        size = len(first) - offset
        last = done + 1
        while last < count and size < _GATHER:
            size += len(queue[last])
            last += 1
        data: bytes | memoryview = first if last == done + 1 else b"".join(queue[done:last])
        if offset:
            data = memoryview(data)[offset:]
        try:
            written = os.write(fd, data)
        except (BlockingIOError, InterruptedError):
            break
        total += written
        if written == len(data):
            done, offset = last, 0
            continue
        offset += written
        while offset >= len(queue[done]):
            offset -= len(queue[done])
            done += 1
        break
    return done, offset, total
