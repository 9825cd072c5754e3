"""The login sessions of one process: the contract."""

import pytest

from service.backplane.memory_logins import MemoryLoginStore
from tests.fakes import ManualClock

from .login_contract import LoginContract, Scene, answer, login


class TestMemoryLogins(LoginContract):
    """Two nodes of one process share one."""

    @pytest.fixture
    def scene(self) -> Scene:
        clock = ManualClock()
        store = MemoryLoginStore(now=clock.now)

        async def pass_time(seconds: float) -> None:
            clock.move(seconds + 1)

        return Scene(store, store, pass_time)


async def test_nothing_is_left_behind() -> None:
    clock = ManualClock()
    store = MemoryLoginStore(now=clock.now)
    await answer(store.start, login("s1"), 60.0)
    await answer(store.start, login("s2"), 60.0)
    assert not store.empty
    await answer(store.end, "s1")
    clock.move(62)
    await answer(store.expired)
    assert store.empty
