"""A proxy that cuts what is silent: after its time and not before, whichever side speaks."""

import trio
import trio.testing

from compat.idle_proxy import Pair

SECONDS = 55.0


async def test_a_pair_is_cut_once_nothing_has_passed_for_so_long(autojump_clock: trio.testing.MockClock) -> None:
    client, near = trio.testing.memory_stream_pair()
    far, gateway = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(Pair(near, far).live, SECONDS)
        # A ping one way or a heartbeat the other is enough.
        for speaker, listener in ((gateway, client), (client, gateway), (gateway, client)):
            await trio.sleep(SECONDS - 1)
            await speaker.send_all(b"still here")
            assert await listener.receive_some() == b"still here"
        begun = trio.current_time()
        assert await client.receive_some() == b""
        assert SECONDS <= trio.current_time() - begun < SECONDS + 1
        assert await gateway.receive_some() == b""


async def test_an_end_is_passed_on(autojump_clock: trio.testing.MockClock) -> None:
    client, near = trio.testing.memory_stream_pair()
    far, gateway = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(Pair(near, far).live, SECONDS)
        begun = trio.current_time()
        await gateway.send_all(b"bye")
        await gateway.aclose()
        assert await client.receive_some() == b"bye"
        assert await client.receive_some() == b""
        assert trio.current_time() - begun < SECONDS
