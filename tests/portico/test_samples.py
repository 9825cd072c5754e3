"""The programs of the tutorial and the how-tos, as users run them: a process in a folder of its own, real signals."""

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio

from tests.gateways import ROOT, Running, clean_environment, gateway
from tests.portico.client.fake_gateway import Peer, Script, fake_gateway, fake_http
from tests.portico.samples import programs, sample

LIMIT = 60.0
"""Seconds for anything to happen, however busy the machine is."""


class Program:
    """A sample that runs, and what it has written."""

    def __init__(self, process: trio.Process) -> None:
        self.process = process
        self.out = b""
        self.err = b""
        self._grew = trio.Event()

    async def read(self, stream: trio.abc.ReceiveStream, name: str) -> None:
        async for data in stream:
            setattr(self, name, getattr(self, name) + data)
            self._grew.set()
            self._grew = trio.Event()

    async def says(self, text: str) -> None:
        """Return once `text` is on its standard output or standard error."""
        with trio.fail_after(LIMIT):
            while text.encode() not in self.out + self.err:
                await self._grew.wait()

    async def ends(self) -> int:
        with trio.fail_after(LIMIT):
            return await self.process.wait()


@asynccontextmanager
async def running(source: str, folder: Path) -> AsyncIterator[Program]:
    """A program saved as the reader would, and started so; killed at the end if it still runs."""
    (folder / "program.py").write_text(source, encoding="utf-8")
    # Unbuffered, as on a reader's terminal.
    command = [sys.executable, "-u", "program.py"]
    options: dict[str, Any] = {"cwd": folder, "env": clean_environment(), "stdin": subprocess.DEVNULL}
    options |= {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "start_new_session": True}
    async with trio.open_nursery() as nursery:
        process = await trio.lowlevel.open_process(command, **options)
        program = Program(process)
        assert process.stdout is not None
        assert process.stderr is not None
        nursery.start_soon(program.read, process.stdout, "out")
        nursery.start_soon(program.read, process.stderr, "err")
        try:
            yield program
        finally:
            if process.returncode is None:
                process.kill()
            with trio.CancelScope(shield=True):
                await process.wait()


@asynccontextmanager
async def against(script: Script, page: str, name: str, folder: Path) -> AsyncIterator[Program]:
    """A sample that talks to a scripted gateway."""
    async with (
        fake_gateway(script) as fake,
        fake_http(lambda _: (200, {"websocket_url": fake.url})) as base_url,
        running(sample(page, name, base_url), folder) as program,
    ):
        yield program


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with gateway(tmp_path_factory.mktemp("gateway")) as running:
        yield running


def caller(live: Running) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=live.base_url, trust_env=False, timeout=LIMIT)


async def serve(peer: Peer, asked: list[tuple[str, Any]], answers: list[Any], answered: trio.Event) -> None:
    """A gateway that a worker connects to: ask, note the answers, then do what a worker that leaves needs."""
    introduction = await peer.next()
    await peer.say({"type": "connect", "data": {"client_id": introduction["data"]["client_id"]}})
    for n, (action, params) in enumerate(asked):
        await peer.say({"type": "request", "msg_id": str(n), "data": {"action": action, "params": params}})
        data = (await peer.next_of("response"))["data"]
        answers.append(data["result"] if data["success"] else data["error"])
    answered.set()
    while (message := await peer.next())["type"] != "disconnect":
        if message["type"] == "heartbeat":
            await peer.say({"type": "heartbeat", "data": {}})


async def test_the_worker(tmp_path: Path) -> None:
    answers: list[Any] = []
    answered = trio.Event()
    asked = [("add", {"a": 2, "b": 3}), ("add", {}), ("word_count", {"text": "a b c"}), ("countdown", {"from": 3})]

    async def script(peer: Peer) -> None:
        await serve(peer, asked, answers, answered)

    async with against(script, "worker", "worker.py", tmp_path) as program:
        await program.says("registered as worker-")
        with trio.fail_after(LIMIT):
            await answered.wait()
        program.process.send_signal(signal.SIGINT)
        assert await program.ends() == 0
    assert answers == [5, 'add needs {"a": number, "b": number}.', 3, [3, 2, 1]]
    assert b"Traceback" not in program.err


@pytest.mark.live
@pytest.mark.parametrize("told", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(("page", "name"), [("tutorial", "counting_worker.py"), ("worker", "worker.py")])
async def test_a_worker_says_that_it_is_connected_and_ends_without_a_traceback(
    live: Running, tmp_path: Path, page: str, name: str, told: signal.Signals
) -> None:
    async with running(sample(page, name, live.base_url), tmp_path) as program:
        await program.says("registered as worker-")
        async with caller(live) as http:
            asked = {"command": "word_count", "data": {"text": "one two three"}}
            answer = await http.post("/api/requests", json=asked)
        assert (answer.json()["success"], answer.json()["data"]) == (True, 3)
        program.process.send_signal(told)
        assert await program.ends() == 0
    lines = program.err.decode().splitlines()
    assert lines[0] == f"connecting to {live.base_url}"
    assert lines[1].startswith("registered as worker-")
    assert lines[2:] == ["ended"], lines
    assert program.out == b""


@pytest.mark.live
async def test_a_second_ctrl_c_ends_a_worker_that_is_busy(live: Running, tmp_path: Path) -> None:
    source = sample("worker", "worker.py", live.base_url)
    source = source.replace(
        "    return len(", "    print('counting')\n    __import__('time').sleep(60)\n    return len("
    )
    async with running(source, tmp_path) as program:
        await program.says("registered as worker-")
        async with caller(live) as http, trio.open_nursery() as nursery:
            asked = {"command": "word_count", "data": {"text": "one"}, "timeout": 30}
            nursery.start_soon(lambda: http.post("/api/requests", json=asked))
            await program.says("counting")
            program.process.send_signal(signal.SIGINT)
            await program.says("finishing 1 in flight")
            program.process.send_signal(signal.SIGINT)
            assert await program.ends() == 130
            nursery.cancel_scope.cancel()
    assert b"Traceback" not in program.err


async def test_the_requester(tmp_path: Path) -> None:
    async def script(peer: Peer) -> None:
        for _ in range(11):
            request = await peer.next()
            data = request["data"]
            result = f"Echo: {data['message']}" if request["command"] == "echo" else data["a"] + data["b"]
            answer = {"request_id": request["request_id"], "success": True, "data": result, "error": None}
            await peer.say(answer | {"processed_by": "w1"})
        await peer.forever()

    async with against(script, "requester", "requester.py", tmp_path) as program:
        assert await program.ends() == 0
    lines = program.out.decode().splitlines()
    assert lines[0] == "Echo: Hello World"
    assert sorted(lines[1:]) == [f"{n} {n + 1}" for n in range(10)]


@pytest.mark.live
async def test_the_requester_without_a_worker(live: Running, tmp_path: Path) -> None:
    async with running(sample("requester", "requester.py", live.base_url), tmp_path) as program:
        assert await program.ends() == 0
    assert program.out.decode().splitlines() == ["start a worker first: portico worker"]
    assert b"bad message" not in program.err
    assert b"the gateway says" not in program.err


@pytest.mark.live
async def test_ten_calls_that_find_no_worker_are_one_sentence(live: Running, tmp_path: Path) -> None:
    source = sample("requester", "requester.py", live.base_url).replace("            return\n", "")
    async with running(source, tmp_path) as program:
        assert await program.ends() == 1
    lines = program.err.decode().splitlines()
    assert [line for line in lines if not line.startswith("connect")] == ["No available workers"], lines


@pytest.mark.live
async def test_the_stream(live: Running, tmp_path: Path) -> None:
    async with running(sample("worker", "worker.py", live.base_url), tmp_path) as worker:
        await worker.says("registered as worker-")
        (tmp_path / "reader").mkdir()
        async with running(sample("requester", "stream.py", live.base_url), tmp_path / "reader") as program:
            assert await program.ends() == 0
    assert program.out.decode().splitlines() == [str(n) for n in range(1000, 988, -1)]


async def test_the_client(tmp_path: Path) -> None:
    feedback: list[dict[str, Any]] = []

    async def script(peer: Peer) -> None:
        registration = await peer.next()
        assert registration["user_id"] == "u1"
        await peer.say({"type": "registration_success", "client_id": "c1", "user_id": "u1"})
        await peer.say({"type": "auto_login", "session_id": "s1"})
        feedback.append(await peer.next())
        await peer.say({"type": "thanks"})
        await peer.forever()

    async with against(script, "client", "client.py", tmp_path) as program:
        await program.says("thanks")
        program.process.send_signal(signal.SIGINT)
        assert await program.ends() == 0
    assert program.out.decode().splitlines()[0] == "registered as c1"
    assert (feedback[0]["type"], feedback[0]["success"]) == ("session_feedback", True)
    assert b"Traceback" not in program.err


@pytest.mark.live
@pytest.mark.parametrize("page", ["worker", "client"])
async def test_what_cannot_be_helped_is_one_sentence(tmp_path: Path, page: str) -> None:
    async with fake_http(lambda _: (200, {"websocket_url": "ws://127.0.0.1:1"})) as base_url:
        source = sample(page, f"{page}.py", base_url).replace("http://", "httq://")
        async with running(source, tmp_path) as program:
            assert await program.ends() == 1
    assert program.err.decode().splitlines() == [
        f"'{base_url.replace('http', 'httq')}' is not an address like http://localhost:8000."
    ]


@pytest.mark.live
async def test_the_sdk_works_in_a_project_with_a_service_package_of_its_own(live: Running, tmp_path: Path) -> None:
    (tmp_path / "service").mkdir()
    (tmp_path / "service" / "__init__.py").write_text("OURS = True\n", encoding="utf-8")
    async with running(PROJECT.replace("http://localhost:8000", live.base_url), tmp_path) as program:
        assert await program.ends() == 0, program.err.decode()
    assert json.loads(program.out) == {"answer": 42, "push": 42, "registered": "ours-1"}


PROJECT = """
import json

import httpx
import service
import trio

from portico import Client, Identity, NoWorkers, Requester, Worker, run

assert service.OURS


async def double(n: int) -> int:
    return 2 * n


async def main() -> None:
    base_url = "http://localhost:8000"
    worker = Worker(base_url, commands={"double_ours": double})
    async with (
        trio.open_nursery() as nursery,
        Client(base_url, identity=Identity(client_id="ours-1")) as client,
        Requester(base_url) as requester,
    ):
        nursery.start_soon(worker.run)
        answer = None
        while answer is None:
            try:
                answer = await requester.request("double_ours", 21)
            except NoWorkers:
                await trio.sleep(0.02)
        async with httpx.AsyncClient(trust_env=False) as http:
            push = {"target": {"client_id": "ours-1"}, "type": "answer", "data": {"n": answer}}
            await http.post(f"{base_url}/api/notifications", json=push)
        pushed = (await anext(client))["n"]
        print(json.dumps({"answer": answer, "push": pushed, "registered": client.registration["client_id"]}))
        worker.stop()


run(main)
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python with a wheel of this tree installed in it, and beside it what this environment has."""
    folder = tmp_path_factory.mktemp("installed")
    tree = folder / "tree"
    tree.mkdir()
    for name in ("portico", "service", "loadtest", "compat"):
        shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        if (ROOT / name).exists():
            shutil.copy(ROOT / name, tree)
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    build = [*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder), str(tree)]
    subprocess.run(build, check=True, env=clean_environment(), timeout=300)
    (wheel,) = folder.glob("portico-*.whl")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder / "venv")], check=True, timeout=300)
    python = folder / "venv" / "bin" / "python"
    (packages,) = (folder / "venv" / "lib").glob("python*/site-packages")
    install = [*pip, "install", "--no-deps", "--no-index", "--target", str(packages), str(wheel)]
    subprocess.run(install, check=True, env=clean_environment(), timeout=300)
    ours = next(path for path in sys.path if path.endswith("site-packages"))
    (packages / "beside.pth").write_text(ours + "\n", encoding="utf-8")
    return python


def test_a_user_s_strict_type_check_is_content_with_every_sample(installed: Path, tmp_path: Path) -> None:
    for number, source in enumerate(programs()):
        (tmp_path / f"sample_{number}.py").write_text(source, encoding="utf-8")
    # One that must fail, or the check checks nothing.
    (tmp_path / "wrong.py").write_text(
        "from portico import Worker\n\nWorker(5, commands={}).runs()\nWorker(commands={}, capacity='8')\n",
        encoding="utf-8",
    )
    checked = type_check(installed, tmp_path)
    complaints = [line for line in checked.stdout.splitlines() if ": error: " in line]
    assert {line.partition(":")[0] for line in complaints} == {"wrong.py"}, checked.stdout + checked.stderr
    assert sorted(line.partition("[")[2] for line in complaints) == ["arg-type]", "arg-type]", "attr-defined]"]
    assert len(list(tmp_path.glob("*.py"))) == 25


def type_check(python: Path, folder: Path) -> "subprocess.CompletedProcess[str]":
    files = sorted(path.name for path in folder.glob("*.py"))
    # One cache for the module: what the SDK rests on takes most of the time.
    cache = python.parents[2] / "mypy"
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(cache), "--python-executable", str(python)]
    environment = {name: value for name, value in clean_environment().items() if name != "PYTHONPATH"}
    return subprocess.run(
        [*command, *files], cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False
    )


def test_every_name_of_the_sdk_is_typed(installed: Path, tmp_path: Path) -> None:
    """No `Any` hides behind the lazy loading: what is exported is what the type checker sees."""
    import portico

    lines = ["import portico", *(f"reveal_type(portico.{name})" for name in portico.__all__)]
    (tmp_path / "names.py").write_text("\n".join(lines) + "\n", encoding="utf-8")
    revealed = [line for line in type_check(installed, tmp_path).stdout.splitlines() if "Revealed type" in line]
    assert len(revealed) == len(portico.__all__)
    assert not [line for line in revealed if 'is "Any"' in line or "is 'Any'" in line]
