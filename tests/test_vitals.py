"""The figures of a process, against what the system says of it."""

import mmap
import os
import time

import pytest
import trio
from trio.testing import MockClock

from service import vitals
from service.vitals import LOOK, Figures, Vitals


async def test_the_lag_is_what_the_loop_was_late_by_and_is_forgotten_again(autojump_clock: MockClock) -> None:
    looks: list[Figures] = []
    kept = Vitals(looks.append)

    async def block() -> None:
        await trio.sleep(LOOK * 0.9)
        autojump_clock.jump(2.0)  # as if something had kept the loop

    async with trio.open_nursery() as nursery:
        nursery.start_soon(kept.run)
        nursery.start_soon(block)
        await trio.sleep(5)
        assert 1.5 < looks[0].lag < 2.0
        await trio.sleep(15)
        assert looks[-1].lag == 0
        nursery.cancel_scope.cancel()


def test_the_processor_time_and_the_memory_are_those_of_the_process() -> None:
    kept = Vitals(lambda _: None)
    began = time.process_time()
    before = {metric.name: metric for metric in kept.metrics()}
    assert before["process_cpu_seconds"].counts
    assert began <= before["process_cpu_seconds"].value <= time.process_time()
    # The system's own, as what the process had before and gave back may lie ready for it.
    with mmap.mmap(-1, 64 << 20) as block:
        block.write(b"m" * len(block))
        assert vitals.memory_in_use() >= before["process_memory_bytes"].value + len(block) // 2
    assert 0 < before["process_memory_bytes"].value < before["process_memory_limit_bytes"].value


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="this system doesn't say")
def test_descriptors_are_counted() -> None:
    before = vitals.descriptors()
    assert before is not None
    opened = [os.open(os.devnull, os.O_RDONLY) for _ in range(10)]
    assert vitals.descriptors() == before + 10
    for fd in opened:
        os.close(fd)
