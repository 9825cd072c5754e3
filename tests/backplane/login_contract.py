"""What every login store promises, as tests; `test_memory_logins.py` and `redis/test_logins.py` run them.

A suite has a fixture `scene`: two nodes' stores of one deployment, and a way to let time pass.
"""

from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

import pytest
import trio
import trio.testing
from msgspec import Raw

from portico.wire.faults import PeerFault
from service.core.push import login_store
from service.core.push.login_store import FEEDBACK_KEPT, Feedback, Login, LoginStore, LogoutEvent
from service.core.reply import Reply

PATIENT: float = 10.0


class Scene(NamedTuple):
    """Two nodes of one deployment. `pass_time(seconds)` has sessions of so many seconds expire."""

    one: LoginStore
    other: LoginStore
    pass_time: Callable[[float], Awaitable[None]]


async def answer(ask: Callable[..., None], *words: object) -> Any:
    """What a store answers; a fault is raised."""
    answers: list[Any] = []
    heard = trio.Event()

    def done(result: object) -> None:
        answers.append(result)
        heard.set()

    ask(*words, Reply(done))
    with trio.fail_after(PATIENT):
        await heard.wait()
    await trio.testing.wait_all_tasks_blocked()
    (result,) = answers
    if isinstance(result, PeerFault):
        raise result
    return result


def login(session_id: str, user_id: str = "u1", **more: Any) -> Login:
    """A session."""
    made: dict[str, Any] = {
        "username": "ann",
        "session_data": Raw(b'{"k":[1,2.50]}'),
        "created_at": 1.5,
        "expires_at": 61.5,
        "extra": {"config": Raw(b'{"a":1e2}')},
    }
    return Login(session_id, user_id, **{**made, **more})


def said(number: int = 0) -> Feedback:
    """Some feedback."""
    return Feedback("c1", True, f"n{number}", 2.5)


class LoginContract:
    """The promises."""

    async def test_a_session_is_found_from_every_node(self, scene: Scene) -> None:
        made = login(
            "s1",
            username="Ann Ä\u2028'\"\\",
            session_data=Raw(b"null"),
            message="Welcome back",
            on_logout=LogoutEvent("user_logout", Raw(b'{"logout_api":"/bye","n":1.50}')),
        )
        assert await answer(scene.one.start, made, 60.0) is None
        for store in (scene.one, scene.other):
            assert await answer(store.get, "s1") == made
            assert await answer(store.current, "u1") == made
            assert await answer(store.of_user, "u1") == [made]
            assert await answer(store.get, "s2") is None
            assert await answer(store.current, "u2") is None
            assert await answer(store.of_user, "u2") == []

    async def test_the_current_session_is_the_one_started_last(self, scene: Scene) -> None:
        for number, store in enumerate((scene.one, scene.other, scene.one, scene.other)):
            await answer(store.start, login(f"s{9 - number}"), 60.0)
        assert [found.session_id for found in await answer(scene.one.of_user, "u1")] == ["s9", "s8", "s7", "s6"]
        assert (await answer(scene.one.current, "u1")).session_id == "s6"
        await answer(scene.one.end, "s6")
        assert (await answer(scene.other.current, "u1")).session_id == "s7"
        await answer(scene.one.start, login("s0"), 60.0)
        assert (await answer(scene.other.current, "u1")).session_id == "s0"

    async def test_one_caller_ends_a_session(self, scene: Scene) -> None:
        await answer(scene.one.start, login("s1"), 60.0)
        assert (await answer(scene.other.end, "s1")).session_id == "s1"
        assert await answer(scene.one.end, "s1") is None
        for store in (scene.one, scene.other):
            assert await answer(store.get, "s1") is None
            assert await answer(store.of_user, "u1") == []
            assert await answer(store.report, "u1", None, said()) is None

    async def test_feedback_is_recorded_with_a_bound(self, scene: Scene) -> None:
        await answer(scene.one.start, login("s1"), 60.0)
        for number in range(FEEDBACK_KEPT + 3):
            store = scene.one if number % 2 else scene.other
            named = "s1" if number % 3 else None
            assert await answer(store.report, "u1", named, said(number)) == "s1"
        expected = [said(number) for number in range(3, FEEDBACK_KEPT + 3)]
        assert (await answer(scene.one.get, "s1")).feedback == expected
        assert (await answer(scene.other.end, "s1")).feedback == expected
        await answer(scene.one.start, login("s1"), 60.0)
        assert (await answer(scene.one.get, "s1")).feedback == []

    async def test_feedback_on_what_is_not_the_user_s(self, scene: Scene) -> None:
        await answer(scene.one.start, login("s1"), 60.0)
        for user, named in (("u2", "s1"), ("u2", None), ("u1", "s2"), ("u1", "")):
            assert await answer(scene.one.report, user, named, said()) is None
        assert (await answer(scene.one.get, "s1")).feedback == []

    async def test_each_that_expires_is_given_to_one_caller(self, scene: Scene) -> None:
        for number in range(5):
            await answer(scene.one.start, login(f"s{number}"), 0.05)
        await answer(scene.one.start, login("longer"), 600.0)
        await scene.pass_time(0.05)
        claimed = [found for store in (scene.one, scene.other) * 2 for found in await answer(store.expired)]
        assert sorted(found.session_id for found in claimed) == [f"s{number}" for number in range(5)]
        assert [found.session_id for found in await answer(scene.other.of_user, "u1")] == ["longer"]
        assert await answer(scene.one.end, "s1") is None
        assert (scene.one.active, scene.other.active) == (1, 1)

    async def test_nothing_expires_before_its_time(self, scene: Scene) -> None:
        await answer(scene.one.start, login("s1"), 600.0)
        await scene.pass_time(0.05)
        assert await answer(scene.one.expired) == []

    async def test_there_is_a_limit(self, scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(login_store, "LIMIT", 2)
        for number in range(2):
            await answer(scene.one.start, login(f"s{number}"), 60.0)
        with pytest.raises(PeerFault) as caught:
            await answer(scene.other.start, login("s2"), 60.0)
        assert caught.value.code == "unavailable"
        assert await answer(scene.one.get, "s2") is None
        await answer(scene.other.end, "s0")
        await answer(scene.other.start, login("s2"), 60.0)
