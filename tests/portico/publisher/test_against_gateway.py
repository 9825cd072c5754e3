"""The publishers, Python's and JavaScript's, against a real gateway with a client and a worker."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from portico import (
    AsyncPublisher,
    Client,
    CommandFailed,
    Connected,
    Identity,
    NoWorkers,
    Publisher,
    Push,
    Receipt,
    Refused,
    RequestFailed,
    Target,
    Worker,
)
from tests import gateways

from .test_javascript import MODULE

pytestmark = pytest.mark.live

KEY = "a-key-for-back-ends-of-this-test-0123456789"


async def add(data: Any) -> int:
    """One command that works,"""
    total: int = data["a"] + data["b"]
    return total


async def fail(data: Any) -> None:
    """and one that doesn't."""
    raise CommandFailed("it went wrong")


@asynccontextmanager
async def scene(folder: Path) -> AsyncIterator[tuple[str, Client]]:
    """A gateway that wants a key, a worker that serves `add` and `fail`, and Ann's client."""
    with gateways.gateway(folder, settings={"PORTICO_API_KEYS": KEY}) as running:
        async with trio.open_nursery() as nursery:
            connected = trio.Event()

            def on_event(event: object) -> None:
                if isinstance(event, Connected):
                    connected.set()

            worker = Worker(running.base_url, commands={"add": add, "fail": fail}, name="w1", on_event=on_event)
            nursery.start_soon(worker.run)
            await connected.wait()
            async with Client(running.base_url, identity=Identity("phone", "ann")) as client:
                yield running.base_url, client
            nursery.cancel_scope.cancel()


def everything(publisher: Publisher) -> dict[str, Any]:
    """Every call once; what each gave."""
    got: dict[str, Any] = {
        "push": publisher.push("one", {"n": 1}, user_id="ann"),
        "again": publisher.push("one", {"n": 2}, user_id="ann", id="same"),
        "doubled": publisher.push("one", {"n": 2}, user_id="ann", id="same"),
        "durable": publisher.push("one", {"n": 3}, client_id="phone", durable=True, ttl=60),
        "many": publisher.push_many([Push(Target(all=True), "one", {"n": 4}), Push(Target(all=True), "x" * 200)]),
        "login": publisher.login("ann", username="Ann", session_data={"token": "t"}, website_config={"a": 1}),
        "logins": publisher.logins("ann"),
        "clients": list(publisher.clients(user_id="ann")),
    }
    got["logout"] = publisher.logout(got["login"]["session_id"])
    got["gone"] = publisher.logout(got["login"]["session_id"])
    return got


async def test_every_call(tmp_path: Path) -> None:
    async with scene(tmp_path) as (base_url, client):
        with Publisher(base_url, api_key=KEY) as publisher:
            got = await trio.to_thread.run_sync(everything, publisher)
            assert (got["push"].matched, got["push"].queued) == (1, 1)
            assert got["again"] == got["doubled"]
            assert got["durable"].stream == "client:phone"
            assert isinstance(got["many"][0], Receipt)
            assert isinstance(got["many"][1], Refused)
            assert got["login"]["website_config"] == {"a": 1}
            assert [each["session_id"] for each in got["logins"]] == [got["login"]["session_id"]]
            assert [each["client_id"] for each in got["clients"]] == ["phone"]
            assert (got["logout"], got["gone"]) == (True, False)
            seen = []
            with trio.fail_after(10):
                async for event in client:
                    seen.append((event["type"], event.get("n")))
                    if event["type"] == "logout_notification":
                        break
            assert seen == [
                ("one", 1),
                ("one", 2),
                ("one", 3),
                ("one", 4),
                ("auto_login", None),
                ("logout_notification", None),
            ]
        async with AsyncPublisher(base_url, api_key=KEY) as asynchronous:
            assert [each["client_id"] for each in await asynchronous.workers()] == ["w1"]
            assert await asynchronous.request("add", {"a": 1, "b": 2}) == 3
            with pytest.raises(RequestFailed, match="went wrong"):
                await asynchronous.request("fail")
            assert [each async for each in asynchronous.clients(user_id="nobody")] == []
            assert await asynchronous.kick("nobody") == 0
            assert await asynchronous.kick("phone") == 1
            with pytest.raises(Refused):
                await asynchronous.ask_client("phone", "ring", timeout=1)


async def test_a_wrong_key_and_no_worker(tmp_path: Path) -> None:
    with gateways.gateway(tmp_path, settings={"PORTICO_API_KEYS": KEY}) as running:
        async with AsyncPublisher(running.base_url, api_key="wrong-" + KEY) as publisher:
            with pytest.raises(Refused) as refused:
                await publisher.push("one", user_id="ann")
            assert refused.value.status == 401
        async with AsyncPublisher(running.base_url, api_key=KEY) as publisher:
            with pytest.raises(NoWorkers):
                await publisher.request("add", {})
        begin = f"import {{ Publisher }} from '{MODULE.as_uri()}';"
        begin += f"const publisher = new Publisher('{running.base_url}', {{ apiKey: '{KEY}' }});"
        for call, said in [
            ("publisher.push({ all: true }, 'one')", '"matched":0'),
            ("publisher.kick('nobody')", "0"),
            ("publisher.workers()", "[]"),
            ("publisher.logins('ann')", "[]"),
            ("Array.fromAsync ? Array.fromAsync(publisher.clients()) : []", "[]"),
            ("publisher.login('ann', { ttl: 60 }).then((it) => publisher.logout(it.session_id))", "true"),
        ]:
            command = [
                "node",
                "--input-type=module",
                "-e",
                f"{begin}console.log(JSON.stringify(await ({call}))); process.exit(0);",
            ]
            done = await trio.run_process(command, capture_stdout=True, capture_stderr=True)
            assert said in done.stdout.decode()
