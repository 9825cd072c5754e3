"""Programs that the supervisor starts: what they inherit, and how their end is told."""

import os
import signal
import sys

import pytest
import trio

from service.supervision.process import Process, how


async def test_its_end_is_waited_for_and_it_inherits_what_is_kept() -> None:
    reader, writer = os.pipe()
    program = f"import os; os.write({writer}, b'here'); raise SystemExit(os.getpgid(0) != os.getpid())"
    process = Process([sys.executable, "-c", program], keep=[writer])
    os.close(writer)
    with trio.fail_after(60):
        assert await process.wait() == 0  # in a group of its own, which the terminal's signals don't reach
    assert os.read(reader, 99) == b"here"
    os.close(reader)
    # It has ended: neither raises.
    process.terminate()
    process.kill()


@pytest.mark.parametrize(("end", "code"), [("terminate", signal.SIGTERM), ("kill", signal.SIGKILL)])
async def test_it_is_ended(end: str, code: signal.Signals) -> None:
    process = Process([sys.executable, "-c", "import time; time.sleep(600)"])
    getattr(process, end)()
    with trio.fail_after(60):
        assert await process.wait() == -code
    assert how(-code) == code.name
