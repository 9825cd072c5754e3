"""Read a file of the operator's of which only a path is known: never waiting for long, and never without bound.

What stands at a path may change while the gateway runs. To open a named pipe waits until somebody writes to it, and to
read `/dev/zero` never ends; either would hold the whole process. So only regular files are read (symbolic links that
lead to one too), and no more of them than the caller takes.
"""

import os
import stat
from errno import EFBIG, EINVAL, EISDIR
from pathlib import Path


def read_regular_file(path: str | Path, limit: int) -> bytes:
    """The content of the file at `path`, at most `limit` bytes. Raises OSError, with a `strerror` that may be shown:
    also for what is no regular file, and for one that is larger. Raises ValueError for what can't be a path."""
    # Looked at before it is opened, since opening a device may do something; and after, since it may be another then.
    _check(os.stat(path).st_mode)
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    with open(descriptor, "rb") as file:
        _check(os.fstat(descriptor).st_mode)
        content = file.read(limit + 1)
    if len(content) > limit:
        raise OSError(EFBIG, f"it is larger than {limit} bytes")
    return content


def _check(mode: int) -> None:
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(EISDIR, os.strerror(EISDIR))
    if not stat.S_ISREG(mode):
        raise OSError(EINVAL, "it is no regular file")
