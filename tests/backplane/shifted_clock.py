"""A clock that can be put wrong while a program runs: a library that is loaded before libc and adds an offset.

Only what the program takes for the time of day is shifted (`gettimeofday`, `time`, `clock_gettime(CLOCK_REALTIME)`), as
when the clock of a machine is put; what measures durations goes on. It needs a C compiler.
"""

import mmap
import shutil
import struct
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Final

COMPILER: Final = shutil.which("cc")
_SOURCE: Final = r"""
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile long long *offset; /* microseconds */

__attribute__((constructor)) static void begin(void) {
    int file = open(getenv("SHIFTED_CLOCK"), O_RDONLY);
    void *page = mmap(0, 8, PROT_READ, MAP_SHARED, file, 0);
    close(file);
    if (page == MAP_FAILED) _exit(70);
    offset = page;
}

int clock_gettime(clockid_t id, struct timespec *at) {
    int failed = syscall(SYS_clock_gettime, id, at);
    if (!failed && offset && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE)) {
        at->tv_sec += *offset / 1000000;
        at->tv_nsec += *offset % 1000000 * 1000;
        if (at->tv_nsec >= 1000000000) { at->tv_sec++; at->tv_nsec -= 1000000000; }
        if (at->tv_nsec < 0) { at->tv_sec--; at->tv_nsec += 1000000000; }
    }
    return failed;
}

int gettimeofday(struct timeval *at, void *zone) {
    struct timespec now;
    int failed = clock_gettime(CLOCK_REALTIME, &now);
    at->tv_sec = now.tv_sec;
    at->tv_usec = now.tv_nsec / 1000;
    return failed;
}

time_t time(time_t *at) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (at) *at = now.tv_sec;
    return now.tv_sec;
}
"""


class ShiftedClock:
    """One clock, for the programs that are started with its `environment`. Its files are in `folder`."""

    def __init__(self, folder: Path) -> None:
        assert COMPILER is not None, "there is no C compiler"
        folder.mkdir(parents=True, exist_ok=True)
        library, place = folder / "clock.so", folder / "offset"
        (folder / "clock.c").write_text(_SOURCE)
        subprocess.run([COMPILER, "-shared", "-fPIC", "-o", library, folder / "clock.c"], check=True, timeout=60)
        place.write_bytes(bytes(8))
        with place.open("r+b") as file:
            self._page = mmap.mmap(file.fileno(), 8)
        self.environment: Mapping[str, str] = {"LD_PRELOAD": str(library), "SHIFTED_CLOCK": str(place)}

    def put(self, seconds: float) -> None:
        """From now on it is so many seconds ahead of the true time."""
        self._page[:] = struct.pack("@q", round(seconds * 1_000_000))
