"""The programs of "Come from FastAPI's WebSockets, Socket.IO or Celery", old and new, as they stand there."""

import asyncio
import importlib.util
import json
import re
import socket
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest
import socketio
import trio
from hypercorn.asyncio import serve
from hypercorn.config import Config
from websockets.sync.client import ClientConnection, connect

from portico import Publisher
from tests.gateways import BIN, ROOT, Running, clean_environment, gateway
from tests.test_docs_tutorial import NODE, going_on, node, wait_for

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it would rather have a successor of httpx
    from starlette.testclient import TestClient

pytestmark = pytest.mark.live

PAGE = (ROOT / "docs" / "how-to" / "coming-from.md").read_text()
LIMIT = 60.0
Load = Callable[[str], ModuleType]


def sample(name: str) -> str:
    (found,) = re.findall(rf"```\w+\n(?:#|//) {re.escape(name)}\n(.*?)```", PAGE, re.DOTALL)
    return str(found)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with gateway(tmp_path_factory.mktemp("gateway"), mode="integrated") as gate:
        yield gate


@pytest.fixture
def load(running: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Load:
    """The module of a program, by its name."""
    monkeypatch.setenv("GATEWAY_URL", running.base_url)

    def loaded(name: str) -> ModuleType:
        file = tmp_path / f"{name}.py"
        file.write_text(sample(f"{name}.py"))
        spec = importlib.util.spec_from_file_location(name, file)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, name, module)  # FastAPI looks the types of a handler up there
        spec.loader.exec_module(module)
        return module

    return loaded


@contextmanager
def registered(running: Running, **identity: str) -> Iterator[ClientConnection]:
    with connect(f"{running.websocket_url}/ws", proxy=None, open_timeout=LIMIT) as client:
        client.send(json.dumps({"type": "c_client_register", **identity}))
        assert json.loads(client.recv(LIMIT))["type"] == "registration_success"
        yield client


def test_fastapi_before_and_after_send_the_same_to_who_connects_the_same_way(running: Running, load: Load) -> None:
    with TestClient(load("glue_app").app) as old, old.websocket_connect("/ws/ann") as socket:
        assert old.post("/cart/ann").json() == {"connections": 1}
        before = socket.receive_json()

    async def after() -> Any:
        app = load("pushing_app").app
        transport = httpx.ASGITransport(app=app)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://shop", timeout=LIMIT) as browser,
        ):
            with connect(f"{running.websocket_url}/ws/ann", proxy=None, open_timeout=LIMIT) as socket:
                # Who comes by the path is there when the handshake is answered.
                assert (await browser.post("/cart/ann")).json() == {"connections": 1}
                return json.loads(socket.recv(LIMIT))

    assert trio.run(after) == before == {"type": "cart_updated", "items": 3}


@contextmanager
def serving(app: Any) -> Iterator[tuple[str, asyncio.AbstractEventLoop]]:
    """An ASGI app on asyncio, in a thread: where it is, and its loop."""
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    config = Config()
    config.bind = [f"fd://{listener.detach()}"]  # it is the server's to close
    running: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = Future()

    async def main() -> None:
        stop = asyncio.Event()
        running.set_result((asyncio.get_running_loop(), stop))
        await serve(app, config, shutdown_trigger=stop.wait)

    thread = threading.Thread(target=asyncio.run, args=(main(),), daemon=True)
    thread.start()
    loop, stop = running.result(LIMIT)
    try:
        yield f"http://127.0.0.1:{port}", loop
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(LIMIT)


def test_socket_io_before(load: Load) -> None:
    module = load("prices_by_socketio")
    with (
        serving(module.app) as (url, loop),
        socketio.SimpleClient() as follower,
        socketio.SimpleClient() as stranger,
    ):
        for client in (follower, stranger):
            client.connect(url, wait_timeout=int(LIMIT))
        follower.call("follow", "ACME", timeout=int(LIMIT))
        asyncio.run_coroutine_threadsafe(module.on_trade("ACME", 7.5), loop).result(LIMIT)
        assert follower.receive(LIMIT) == ["price", {"symbol": "ACME", "price": 7.5}]
        with pytest.raises(socketio.exceptions.TimeoutError):
            stranger.receive(0.1)


@pytest.mark.skipif(NODE is None, reason="needs Node")
def test_socket_io_after(running: Running, load: Load, tmp_path: Path) -> None:
    module = load("prices_by_portico")
    page = f"""
        const address = {json.dumps(running.websocket_url + "/ws")};
        const show = (symbol, price) => {{ console.log(symbol, price); process.exit(0); }};
        {sample("prices.js")}
    """
    (tmp_path / "page.mjs").write_text(page)
    with (
        going_on(node(tmp_path / "page.mjs"), tmp_path, "page") as said,
        registered(running, channel_id="OTHER") as other,
        Publisher(running.base_url) as publisher,
    ):
        wait_for(lambda: bool(list(publisher.clients(channel_id="ACME"))), lambda: "the page has not come")
        asyncio.run(module.on_trade("ACME", 7.5))
        publisher.push("price", {"symbol": "OTHER", "price": 1}, channel_id="OTHER")
        assert json.loads(other.recv(LIMIT))["symbol"] == "OTHER", "nothing of ACME's came before"
        wait_for(lambda: said.read_text() == "ACME 7.5\n", said.read_text)


def test_a_celery_task_tells_the_browser_once_however_often_it_is_tried(running: Running, load: Load) -> None:
    module = load("tasks")
    with registered(running, user_id="eve") as client:
        for _ in range(2):
            done = module.make_report.apply(args=("eve", "2026-10"), task_id="t1")
            assert done.get() == "/reports/2026-10.pdf"
        with Publisher(running.base_url) as publisher:
            publisher.push("after", user_id="eve")
        told = [json.loads(client.recv(LIMIT)) for _ in range(2)]
    assert [one["type"] for one in told] == ["report_ready", "after"]
    assert told[0]["address"] == "/reports/2026-10.pdf"
    module.portico.close()


def test_what_was_a_task_with_somebody_waiting_is_a_request(running: Running, tmp_path: Path) -> None:
    (tmp_path / "quoting.py").write_text(sample("quoting.py").replace("http://localhost:8000", running.base_url))
    worker = subprocess.Popen(
        [str(BIN / "portico"), "worker", "quoting:worker"],
        cwd=tmp_path,
        env=clean_environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        with Publisher(running.base_url) as publisher:
            wait_for(lambda: bool(publisher.workers()), lambda: f"no worker has come: {worker.poll()}")
            assert publisher.request("quote", {"items": [1, 2, 3]}, timeout=30) == {"total": 6}
    finally:
        worker.kill()
        worker.wait()


def test_every_program_is_run() -> None:
    programs = {"glue_app.py", "pushing_app.py", "prices_by_socketio.py", "prices_by_portico.py", "prices.js"}
    assert set(re.findall(r"```\w+\n(?:#|//) (\S+)\n", PAGE)) == programs | {"tasks.py", "quoting.py"}
    assert PAGE.count("```") == 2 * 7
