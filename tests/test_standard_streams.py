"""Standard streams that were closed: what they are then, and that those that are open stay as they are."""

import subprocess
import sys

import pytest

from tests.gateways import ROOT, clean_environment

PROGRAM = """
import os, sys
from service.standard_streams import open_standard_streams
open_standard_streams()
open_standard_streams()
for stream in (sys.stdin, sys.stdout, sys.stderr):
    assert stream is not None
assert sys.stdin.read() == ""
print("to stdout")
print("to stderr", file=sys.stderr)
sys.stdout.flush()
# What is opened next gets none of the three numbers.
assert os.open(os.devnull, os.O_RDONLY) > 2
# A child process has them too.
assert all(os.get_inheritable(number) for number in range(3))
"""


@pytest.mark.parametrize("closed", ["", "0", "1", "2", "01", "12", "02", "012"])
def test_what_is_closed_reads_and_writes_nothing(closed: str) -> None:
    shell = f'exec "{sys.executable}" -c "$0" {" ".join(f"{number}>&-" for number in closed)}'
    done = subprocess.run(
        ["sh", "-c", shell, PROGRAM],
        cwd=ROOT,
        env=clean_environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == ("" if "1" in closed else "to stdout\n")
    assert done.stderr == ("" if "2" in closed else "to stderr\n")


def test_a_number_that_something_else_has_by_now_is_left_to_it() -> None:
    program = (
        "import os, sys\n"
        "from service.standard_streams import open_standard_streams\n"
        "reader, writer = os.pipe()\n"
        "assert 2 in (reader, writer)\n"
        "open_standard_streams()\n"
        "print('lost', file=sys.stderr, flush=True)\n"
        "os.write(writer, b'kept')\n"
        "assert os.read(reader, 99) == b'kept'\n"
    )
    done = subprocess.run(
        ["sh", "-c", f'exec "{sys.executable}" -c "$0" 2>&-', program],
        cwd=ROOT,
        env=clean_environment(),
        capture_output=True,
        timeout=300,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, b"")
