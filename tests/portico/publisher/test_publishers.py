"""Both publishers against a server that fails: nothing is lost, nothing is doubled, and the reason is said."""

import multiprocessing
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio

import portico
from portico import (
    AsyncPublisher,
    GaveUp,
    NoWorkers,
    Publisher,
    Push,
    Receipt,
    Refused,
    Target,
    Unavailable,
    Unreachable,
)

from .scripted import Handle, answer, error, half, hang_up, page, receipt, scripted

Use = Callable[[str, dict[str, Any], Callable[[Any], Any]], Any]


def blocking(base_url: str, options: dict[str, Any], call: Callable[[Any], Any]) -> Any:
    with Publisher(base_url, **options) as publisher:
        return call(publisher)


def on_trio(base_url: str, options: dict[str, Any], call: Callable[[Any], Any]) -> Any:
    async def main() -> Any:
        async with AsyncPublisher(base_url, **options) as publisher:
            return await call(publisher)

    return trio.run(main)


def on_asyncio(base_url: str, options: dict[str, Any], call: Callable[[Any], Any]) -> Any:
    import asyncio

    async def main() -> Any:
        async with AsyncPublisher(base_url, **options) as publisher:
            return await call(publisher)

    return asyncio.run(main())


@pytest.fixture(params=[blocking, on_trio, on_asyncio], ids=["blocking", "trio", "asyncio"])
def use(request: pytest.FixtureRequest) -> Use:
    found: Use = request.param
    return found


def cart(publisher: Any) -> Any:
    return publisher.push("cart_updated", {"items": 3}, user_id="u1", durable=True)


@pytest.mark.parametrize(
    "faults",
    [
        [hang_up],
        [half],
        [error(503, "unavailable")],
        [error(503, "unavailable", retry_after="0.01")],
        [error(429, "rate_limited", retry_after="0.01")],
        [hang_up, half, error(503, "unavailable"), hang_up],
        [page(502), page(503), page(504)],
    ],
)
def test_a_push_is_tried_again_under_one_id(use: Use, faults: list[Handle]) -> None:
    with scripted(*faults, receipt) as server:
        got = use(server.base_url, {}, cart)
    assert isinstance(got, Receipt)
    assert len(server.asked) == len(faults) + 1
    assert {asked.body["id"] for asked in server.asked} == {got.id}
    assert server.asked[-1].body == {
        "target": {"user_id": "u1"},
        "type": "cart_updated",
        "data": {"items": 3},
        "durable": True,
        "id": got.id,
    }


def test_a_batch_is_tried_again_under_its_ids(use: Use) -> None:
    pushes = [Push(Target(user_id="u1"), "a"), Push(Target(all=True), "b", id="mine")]
    with scripted(hang_up, receipt) as server:
        got = use(server.base_url, {}, lambda publisher: publisher.push_many(pushes))
    first, second = server.asked
    assert [one["id"] for one in first.body] == [one["id"] for one in second.body]
    assert [one.id for one in got] == [one["id"] for one in first.body]
    assert got[1].id == "mine"


def test_a_batch_says_what_became_of_each(use: Use) -> None:
    rows = [
        {"id": "a", "matched": 1, "queued": 1},
        {"error": {"code": "bad_field", "message": "The field 'type' is too long.", "field": "type"}},
        {"error": {"code": "unavailable", "message": "Redis is away.", "field": None}},
    ]
    with scripted(answer(202, rows)) as server:
        got = use(server.base_url, {}, lambda publisher: publisher.push_many([Push(Target(all=True), "t")] * 3))
    assert isinstance(got[0], Receipt)
    assert isinstance(got[1], Refused)
    assert (got[1].code, got[1].field) == ("bad_field", "type")
    assert isinstance(got[2], Unavailable)


def test_a_login_is_not_started_twice(use: Use) -> None:
    with scripted(hang_up, answer(201, {"session_id": "s1"})) as server, pytest.raises(Unreachable):
        use(server.base_url, {}, lambda publisher: publisher.login("u1", website_config={"a": 1}))
    assert len(server.asked) == 1
    assert server.asked[0].body == {"user_id": "u1", "website_config": {"a": 1}}


def test_a_request_that_must_not_be_done_twice(use: Use) -> None:
    with scripted(hang_up, answer(200, {"success": True, "data": 1})) as server, pytest.raises(Unreachable):
        use(server.base_url, {}, lambda publisher: publisher.request("pay", idempotent=False))
    assert len(server.asked) == 1
    with scripted(hang_up, answer(200, {"success": True, "data": 1})) as server:
        assert use(server.base_url, {}, lambda publisher: publisher.request("read")) == 1


def test_refusals_have_the_gateways_words(use: Use) -> None:
    with scripted(error(400, "bad_field")) as server, pytest.raises(Refused, match="It is bad_field") as refused:
        use(server.base_url, {"api_key": "k" * 32}, cart)
    assert (refused.value.status, refused.value.code) == (400, "bad_field")
    assert len(server.asked) == 1
    assert server.asked[0].headers["authorization"] == "Bearer " + "k" * 32
    assert "kkkk" not in str(refused.value)


def test_patience_ends(use: Use) -> None:
    with scripted(error(503, "unavailable")) as server, pytest.raises(Unavailable, match="It is unavailable"):
        use(server.base_url, {"patience": 2.0}, cart)
    assert len(server.asked) > 1
    with scripted(hang_up) as server, pytest.raises(GaveUp, match="No answer from"):
        use(server.base_url, {"patience": 2.0}, cart)
    with scripted(hang_up) as server, pytest.raises(Unreachable):
        use(server.base_url, {"patience": 0}, cart)


def test_an_answer_that_never_comes(use: Use) -> None:
    never = threading.Event()

    def wait(*_: object) -> None:
        never.wait()

    with scripted(wait) as server:
        try:
            with pytest.raises(Unreachable):
                use(server.base_url, {"timeout": 0.2, "patience": 0}, cart)
        finally:
            never.set()


def test_nobody_there(use: Use) -> None:
    with pytest.raises(Unreachable, match=r"http://127\.0\.0\.1:1"):
        use("http://127.0.0.1:1", {"patience": 0}, cart)


@pytest.mark.parametrize("body", ["hello", [], 7, None, {"success": "?"}])
def test_a_server_that_is_no_gateway(use: Use, body: object) -> None:
    with scripted(answer(200, body)) as server, pytest.raises(Refused, match="is this its HTTP address"):
        use(server.base_url, {}, cart)


@pytest.mark.parametrize("status", [502, 503, 504])
def test_what_a_proxy_answers_in_the_gateways_place_is_no_answer(use: Use, status: int) -> None:
    """It may have been done, so it is not Refused, and what must not be done twice is not sent again."""
    with scripted(page(status)) as server, pytest.raises(Unreachable, match=f"proxy.*{status}"):
        use(server.base_url, {"patience": 0}, cart)
    calls: list[Callable[[Any], Any]] = [
        lambda publisher: publisher.login("u1"),
        lambda publisher: publisher.ask_client("c1", "reload"),
        lambda publisher: publisher.request("pay", idempotent=False),
    ]
    for call in calls:
        with scripted(page(status), answer(201, {"success": True})) as server, pytest.raises(Unreachable):
            use(server.base_url, {}, call)
        assert len(server.asked) == 1
    with scripted(page(status), answer(200, {"success": True, "data": 1})) as server:
        assert use(server.base_url, {}, lambda publisher: publisher.request("read")) == 1


def test_no_worker_is_an_answer(use: Use) -> None:
    said = {"request_id": "r", "success": False, "data": None, "error": "No available workers", "processed_by": None}
    with scripted(answer(503, said)) as server, pytest.raises(NoWorkers):
        use(server.base_url, {}, lambda publisher: publisher.request("echo", {"message": "hi"}))
    assert len(server.asked) == 1


def test_connections_are_kept(use: Use) -> None:
    async def several(publisher: Any) -> None:
        for _ in range(5):
            await cart(publisher)

    def many(publisher: Any) -> Awaitable[None] | None:
        if isinstance(publisher, AsyncPublisher):
            return several(publisher)
        for _ in range(5):
            cart(publisher)
        return None

    with scripted(receipt) as server:
        use(server.base_url, {}, many)
    assert {asked.connection for asked in server.asked} == {1}


def _in_child(publisher: Publisher) -> None:
    publisher.push("child", user_id="u1")


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_process_has_connections_of_its_own() -> None:
    with scripted(receipt) as server, Publisher(server.base_url) as publisher:
        publisher.push("parent", user_id="u1")
        child = multiprocessing.get_context("fork").Process(target=_in_child, args=(publisher,))
        child.start()
        child.join(30)
        assert child.exitcode == 0
        publisher.push("parent", user_id="u1")
        assert [asked.connection for asked in server.asked] == [1, 2, 1]


def test_threads_share_a_publisher() -> None:
    got: list[Receipt] = []
    with scripted(receipt) as server, Publisher(server.base_url) as publisher:
        threads = [threading.Thread(target=lambda: got.append(cart(publisher))) for _ in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len({one.id for one in got}) == 20


def test_its_names_are_exported() -> None:
    for name in ("Publisher", "AsyncPublisher", "Push", "Target", "Receipt", "Refused", "Unavailable"):
        assert name in portico.__all__
        assert getattr(portico, name).__name__ == name
