"""Accepting: when descriptors run out it pauses, and goes on by itself."""

import errno
import os
import resource
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import trio

from .contract import Options
from .native_harness import NativeHarness
from .raw import RawClient, upgrade
from .script import Counts, ScriptGate


@contextmanager
def few_descriptors() -> Iterator[None]:
    """As if the process had none left."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(name) for name in os.listdir("/proc/self/fd"))
    spare = [os.open("/dev/null", os.O_RDONLY) for _ in range(highest + 2 - len(os.listdir("/proc/self/fd")))]
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(spare, default=highest) + 1, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for fd in spare:
            os.close(fd)


async def test_out_of_descriptors_accepting_pauses_and_resumes(
    harness: NativeHarness, gate: ScriptGate, counts: Counts
) -> None:
    async with harness.serve(gate, counts, Options()) as address, await RawClient.open(address) as bystander:
        waiting = socket.socket()
        waiting.setblocking(False)
        with few_descriptors():
            assert waiting.connect_ex(address) in (0, errno.EINPROGRESS)
            with trio.fail_after(10):
                while "accept_paused" not in [event for event, _ in harness.log]:  # noqa: ASYNC110
                    await trio.sleep(0.01)
            await bystander.say("still served")
            assert await bystander.message() == "still served"
        client = RawClient(trio.SocketStream(trio.socket.from_stdlib_socket(waiting)))
        await client.send(upgrade())
        assert (await client.answer()).status == 101
        await client.aclose()
    assert [event for event, _ in harness.log if event == "accept_resumed"]
    assert counts.accept_pauses == [event for event, _ in harness.log].count("accept_paused")
