"""A shared listening socket that one process gives up: whoever accepts there waits on, the others get who comes."""

import socket

import trio
import trio.lowlevel
import trio.testing

from service.transports.listener import deafen, open_listeners


async def test_whoever_accepts_from_a_deafened_socket_gets_nobody_any_more() -> None:
    (shared,) = await open_listeners("127.0.0.1", 0)
    with shared.dup() as other, trio.socket.from_stdlib_socket(shared) as ours:
        other.setblocking(False)
        accepted: list[object] = []

        async def accept() -> None:
            while True:
                accepted.append((await ours.accept())[0])

        async with trio.open_nursery() as nursery:
            nursery.start_soon(accept)
            await trio.testing.wait_all_tasks_blocked()
            deafen(shared)
            for _ in range(3):  # the first wakes who waited on the socket that was
                with socket.create_connection(other.getsockname()):
                    await trio.lowlevel.checkpoint()
                    await trio.testing.wait_all_tasks_blocked(0.05)
                    other.accept()[0].close()
            assert accepted == []
            nursery.cancel_scope.cancel()
