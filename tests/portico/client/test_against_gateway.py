"""The SDK and the command line against a real gateway, each part a process of its own."""

import itertools
import json
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from functools import partial
from pathlib import Path

import httpx
import pytest
import trio
from trio_websocket import open_websocket_url

from portico import Answer, Client, Identity, NoWorkers, Requester, RequestFailed, Worker
from tests import gateways
from tests.gateways import Running
from tests.portico.client.fake_gateway import Events

pytestmark = pytest.mark.live

PORTICO = [sys.executable, "-m", "service.cli"]
BARE = gateways.clean_environment()

CALLS = 1000
IN_FLIGHT = 64


@asynccontextmanager
async def gateway(folder: Path) -> AsyncIterator[Running]:
    """A gateway in a process of its own, for `async with` beside other things."""
    with gateways.gateway(folder) as running:
        yield running


def program(arguments: list[str], env: dict[str, str], cwd: Path) -> Callable[..., Awaitable[object]]:
    """`portico …` for `nursery.start`; its last words are in the test's output if it fails."""
    return partial(trio.run_process, [*PORTICO, *arguments], env=env, cwd=cwd, check=False, stdout=subprocess.DEVNULL)


@asynccontextmanager
async def workers(running: Running, cwd: Path, names: list[str]) -> AsyncIterator[dict[str, trio.Process]]:
    """One `portico worker` per name, all of them registered."""
    async with trio.open_nursery() as nursery:
        processes: dict[str, trio.Process] = {}
        for name in names:
            arguments = ["worker", "--base-url", running.base_url, "--name", name]
            processes[name] = await nursery.start(program(arguments, BARE, cwd))
        with trio.fail_after(60):
            await all_serve(running, set(names))
        try:
            yield processes
        finally:
            nursery.cancel_scope.cancel()


async def all_serve(running: Running, names: set[str]) -> None:
    """Return once every one of `names` has answered something."""
    seen: set[str | None] = set()
    async with Requester(base_url=running.base_url, on_event=Events()) as r:
        while not names <= seen:
            try:
                # Several at a time: the least loaded worker would otherwise be the same every time.
                async with trio.open_nursery() as nursery:
                    for _ in range(16):
                        nursery.start_soon(note_worker, r, seen)
            except* NoWorkers:
                await trio.sleep(0.05)


async def note_worker(r: Requester, seen: set[str | None]) -> None:
    answer = await r.ask("get_time")
    answer.unwrap()
    seen.add(answer.processed_by)


async def many_calls(running: Running, after: Callable[[int], None] = lambda done: None) -> list[Answer]:
    """All the answers to CALLS calls over one connection; `after` is told how many are done."""
    answers: list[Answer] = []
    left = iter(range(CALLS))
    async with Requester(base_url=running.base_url, on_event=Events()) as r:

        async def caller() -> None:
            for n in left:
                answer = await r.ask("echo", {"message": str(n)}, timeout=30)
                assert answer.data == f"Echo: {n}", answer
                answers.append(answer)
                after(len(answers))

        with trio.fail_after(120):
            async with trio.open_nursery() as nursery:
                for _ in range(IN_FLIGHT):
                    nursery.start_soon(caller)
    return answers


def share(answers: list[Answer], name: str) -> float:
    return sum(answer.processed_by == name for answer in answers) / len(answers)


async def test_a_thousand_calls_are_all_answered_and_spread_evenly(tmp_path: Path) -> None:
    names = ["a", "b", "c"]
    async with gateway(tmp_path) as running, workers(running, tmp_path, names):
        answers = await many_calls(running)
    assert len(answers) == CALLS
    assert all(answer.success for answer in answers)
    shares = {name: share(answers, name) for name in names}
    assert sum(shares.values()) == pytest.approx(1)
    assert all(0.2 < part < 0.47 for part in shares.values()), shares


async def test_a_killed_worker_costs_no_answer(tmp_path: Path) -> None:
    names = ["a", "b", "c"]
    async with gateway(tmp_path) as running, workers(running, tmp_path, names) as processes:
        killed_at: list[int] = []

        def kill_one(done: int) -> None:
            if done >= CALLS // 3 and not killed_at:
                killed_at.append(done)
                processes["b"].send_signal(signal.SIGKILL)

        answers = await many_calls(running, kill_one)
    assert killed_at
    assert len(answers) == CALLS
    assert all(answer.success for answer in answers)
    # It had its part before, and nothing after: what it held went to the others.
    assert 0 < share(answers, "b") < 0.3


async def test_a_worker_that_is_told_to_end_costs_no_answer_and_ends_well(tmp_path: Path) -> None:
    names = ["a", "b"]
    async with gateway(tmp_path) as running, workers(running, tmp_path, names) as processes:
        told: list[int] = []

        def tell_one(done: int) -> None:
            if done >= CALLS // 3 and not told:
                told.append(done)
                processes["b"].send_signal(signal.SIGTERM)

        answers = await many_calls(running, tell_one)
        with trio.fail_after(30):
            assert await processes["b"].wait() == 0
    assert len(answers) == CALLS
    assert all(answer.success for answer in answers)


async def test_the_command_line_s_requester(tmp_path: Path) -> None:
    async with gateway(tmp_path) as running, workers(running, tmp_path, ["a", "b"]):
        arguments = ["request", "echo", '{"message": "Hello World"}', "--base-url", running.base_url]
        one = await trio.run_process([*PORTICO, *arguments], capture_stdout=True, env=BARE, cwd=tmp_path)
        many = await trio.run_process(
            [*PORTICO, *arguments, "--count", "1000", "--concurrency", "64"],
            capture_stdout=True,
            env=BARE,
            cwd=tmp_path,
        )
    answer = json.loads(one.stdout)
    assert (answer["data"], answer["processed_by"] in ("a", "b")) == ("Echo: Hello World", True)
    summary = json.loads(many.stdout)
    assert (summary["answered"], summary["failed"]) == (1000, 0)
    assert summary["by_worker"].keys() == {"a", "b"}


async def fail_a_part(url: str) -> None:
    """A worker of which a part of each answer fails, as no handler of the SDK's does."""
    commands = {"client_id": "raw", "role": "worker", "commands": ["half"]}
    async with open_websocket_url(url) as link:
        await link.send_message(json.dumps({"type": "connect", "data": commands}))
        while True:
            message = json.loads(await link.get_message())
            if message["type"] != "request":
                continue
            for answer in ({"result": 1}, {"success": False, "error": "disk full"}, {"result": 3}):
                data = {"request_id": message["msg_id"], "partial": True} | answer
                await link.send_message(json.dumps({"type": "response", "data": data}))


async def test_the_sdk_s_worker_streams_cancels_and_fails_as_its_handlers_do(tmp_path: Path) -> None:
    began, stopped = trio.Event(), trio.Event()

    async def count(n: int) -> AsyncIterator[int]:
        for i in range(n):
            yield i

    async def endless(_: object) -> None:
        began.set()
        try:
            await trio.sleep_forever()
        finally:
            stopped.set()

    async def counting(_: object) -> AsyncIterator[int]:
        try:
            for i in itertools.count():
                yield i
                await trio.sleep(0.01)
        finally:
            stopped.set()

    async with gateway(tmp_path) as running, trio.open_nursery() as nursery:
        serving = Worker(
            url=running.worker_url,
            commands={"count": count, "counting": counting, "endless": endless},
            on_event=Events(),
        )
        nursery.start_soon(serving.run)
        nursery.start_soon(fail_a_part, running.worker_url)
        async with Requester(url=running.websocket_url, on_event=Events()) as r:
            with trio.fail_after(30):
                while True:
                    try:
                        assert await r.request("count", 2) == [0, 1]
                        break
                    except NoWorkers:
                        await trio.sleep(0.02)
                while True:
                    async with aclosing(r.stream("half")) as halves:
                        try:
                            assert await anext(halves) == 1
                        except NoWorkers:  # the other worker may come later
                            await trio.sleep(0.02)
                            continue
                        with pytest.raises(RequestFailed, match="disk full"):
                            await anext(halves)
                        break
                assert [part async for part in r.stream("count", 5)] == [0, 1, 2, 3, 4]
                with pytest.raises(RequestFailed, match="TypeError"):
                    await r.request("count", "many")
                with pytest.raises(RequestFailed, match="timeout"):
                    await r.request("endless", timeout=0.2)
                await stopped.wait()
                # A caller that leaves: the worker is told, though the connection stays.
                began, stopped = trio.Event(), trio.Event()
                async with trio.open_nursery() as callers:
                    callers.start_soon(r.request, "endless")
                    await began.wait()
                    callers.cancel_scope.cancel()
                await stopped.wait()
                stopped = trio.Event()
                async with aclosing(r.stream("counting")) as parts:
                    async for part in parts:
                        if part == 2:
                            break
                await stopped.wait()
                assert await r.request("count", 1) == [0]
        serving.stop()
        nursery.cancel_scope.cancel()


async def test_the_sdk_s_client_receives_what_is_pushed_to_it(tmp_path: Path) -> None:
    async with gateway(tmp_path) as running, httpx.AsyncClient(trust_env=False) as http:
        identity = Identity(client_id="c1", user_id="ann")
        async with Client(running.base_url, identity=identity, on_event=Events()) as c:
            push = {"target": {"user_id": "ann"}, "type": "cart_updated", "data": {"items": 3}}
            response = await http.post(f"{running.base_url}/api/notifications", json=push)
            assert response.status_code == 202, response.text
            with trio.fail_after(10):
                got = await anext(c)
            assert (got["type"], got["items"]) == ("cart_updated", 3)

            await c.register(Identity(client_id="c1", user_id="bob"))
            login = {"user_id": "bob", "username": "Bob", "session_data": {}, "ttl": 60}
            response = await http.post(f"{running.base_url}/api/logins", json=login)
            assert response.status_code == 201, response.text
            with trio.fail_after(10):
                got = await anext(c)
            assert (got["type"], got["user_id"]) == ("auto_login", "bob")
            await c.session_feedback(success=True, message="done")
            with trio.fail_after(10):
                feedback: list[object] = []
                while not feedback:
                    shown = await http.get(f"{running.base_url}/api/logins/{got['session_id']}")
                    feedback = shown.json().get("feedback", [])
                    await trio.sleep(0.02)
