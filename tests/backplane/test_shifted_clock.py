"""A Redis whose clock is put wrong takes the wrong time for the time, and answers as before."""

import time
from pathlib import Path

import pytest

from .redis_server import RedisServer
from .shifted_clock import COMPILER, ShiftedClock

pytestmark = pytest.mark.skipif(COMPILER is None, reason="needs a C compiler for a clock that can be put wrong")


def test_the_clock_of_a_redis_is_put_wrong_and_right_again(tmp_path: Path) -> None:
    clock = ShiftedClock(tmp_path)
    redis = RedisServer(tmp_path / "redis")
    redis.environment = clock.environment
    redis.start()
    try:
        redis.command("SET", "kept", "1", "EX", "600")
        for seconds in (0.0, 300.0, -3600.0, 0.0):
            clock.put(seconds)
            told = int(redis.command("TIME").split(b"\r\n")[2])
            assert abs(told - time.time() - seconds) < 30
            assert redis.command("EXISTS", "kept") == b":1\r\n"
        clock.put(3600.0)
        assert redis.command("EXISTS", "kept") == b":0\r\n", "what lapses by the time of day has lapsed"
    finally:
        redis.kill()
