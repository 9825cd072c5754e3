"""What a loop over coredis' `get_message` reads and nothing else: the yardstick for what a node does besides.

`python -m tests.bench.redis.get_message_loop PORT USERS`: subscribes to the users' channels, says "ready", and at each
message on the channel `mark` how many it has read so far, and the CPU seconds of its process.
"""

import sys
import time

import coredis
import trio

BATCH = 200
"""Channels that are subscribed at once."""


async def read(port: int, users: int) -> None:
    """Read until cancelled."""
    client: coredis.Redis[bytes] = coredis.Redis("127.0.0.1", port)
    async with client, client.pubsub() as pubsub:
        await pubsub.subscribe("mark")
        for first in range(0, users, BATCH):
            await pubsub.subscribe(*(f"notifications:u{number}" for number in range(first, min(first + BATCH, users))))
        print("ready", flush=True)
        count = 0
        while True:
            message = await pubsub.get_message()
            if message is None or message["type"] != "message":
                continue
            count += 1
            if message["channel"] == b"mark":
                print(count, time.process_time(), flush=True)


if __name__ == "__main__":
    trio.run(read, int(sys.argv[1]), int(sys.argv[2]))
