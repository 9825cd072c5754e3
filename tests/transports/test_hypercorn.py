"""`hypercorn -k trio` as people start it, in processes of its own: contained, drained, and with TLS."""

import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
import trio

from tests.certificates import make_certificate

from .contract import send_what_is_taken, until
from .raw import TEXT, Address, RawClient, close_frame, frame, upgrade
from .vectors import GET, VECTORS, whole

ROOT = Path(__file__).parents[2]


class Hypercorn:
    """`hypercorn -k trio` in a process of its own."""

    def __init__(self, process: trio.Process, diary: Path) -> None:
        self.process = process
        self.diary = diary
        self.address: Address = ("", 0)

    def lines(self) -> list[str]:
        return self.diary.read_text().splitlines() if self.diary.exists() else []

    async def ready(self, workers: int) -> None:
        def listening() -> bool:
            return sum("Running on" in line for line in self.lines()) >= workers

        await until(listening, 40)
        line = next(line for line in self.lines() if "Running on" in line)
        self.address = ("127.0.0.1", int(line.split("127.0.0.1:")[1].split(" ")[0]))


@asynccontextmanager
async def plain_hypercorn(tmp_path: Path, *options: str, workers: int = 1) -> AsyncIterator[Hypercorn]:
    diary = tmp_path / "diary"
    command = [sys.executable, "-m", "hypercorn", "-k", "trio", "-w", str(workers), "--bind", "127.0.0.1:0"]
    process = await trio.lowlevel.open_process(
        [*command, *options, "tests.transports.door_app:app"],
        cwd=ROOT,
        env={**os.environ, "DOOR_APP_DIARY": str(diary)},
        start_new_session=True,
    )
    server = Hypercorn(process, diary)
    try:
        await server.ready(workers)
        yield server
        with trio.fail_after(20):
            await process.wait()
    finally:
        # The whole group: a master that is killed leaves its workers behind.
        with trio.CancelScope(shield=True):
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()


def to_master(server: Hypercorn) -> None:
    os.kill(server.process.pid, signal.SIGTERM)


def to_group(server: Hypercorn) -> None:
    os.killpg(server.process.pid, signal.SIGTERM)


def interrupt_group(server: Hypercorn) -> None:
    os.killpg(server.process.pid, signal.SIGINT)


@pytest.mark.live
@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("stop", [to_master, to_group, interrupt_group])
async def test_hypercorn_drains_and_runs_the_shutdown(
    tmp_path: Path, stop: Callable[[Hypercorn], None], workers: int
) -> None:
    async with plain_hypercorn(tmp_path, workers=workers) as server:
        clients = [await RawClient.open(server.address) for _ in range(20)]
        stop(server)
        codes = []
        for client in clients:
            codes.append(await client.closed())
            await client.send(close_frame(1012))
        for client in clients:
            await client.ended()
            await client.aclose()
    assert codes == [(1012, "retry_within_ms=1000")] * 20
    assert server.process.returncode == 0
    lines = server.lines()
    for step in ("startup", "drain", "drained", "shutdown"):
        assert lines.count(step) == workers, lines


@pytest.mark.live
async def test_plain_hypercorn_survives_every_vector(tmp_path: Path) -> None:
    async with plain_hypercorn(tmp_path) as server, await RawClient.open(server.address) as bystander:
        for vector in VECTORS:
            async with await RawClient.dial(server.address) as attacker:
                await send_what_is_taken(attacker, vector.values[0])  # type: ignore[arg-type]  # bytes all
                with trio.move_on_after(0.1):
                    await attacker.rest()
        await bystander.say("still there?")
        assert await bystander.message() == "still there?"
        async with await RawClient.dial(server.address) as client:
            await client.send(GET)
            await whole(client)
        to_master(server)
    assert server.lines().count("startup") == 1


@pytest.mark.live
async def test_tls_by_hypercorn(tmp_path: Path) -> None:
    made = make_certificate(tmp_path)
    async with plain_hypercorn(tmp_path, "--certfile", str(made.file), "--keyfile", str(made.key)) as server:
        plain = await trio.open_tcp_stream(*server.address)
        async with trio.SSLStream(plain, made.trusted(), server_hostname="localhost", https_compatible=True) as stream:
            with trio.fail_after(20):
                await stream.send_all(upgrade() + frame(TEXT, b"under cover"))
                received = b""
                while b"under cover" not in received:
                    data = await stream.receive_some()
                    assert data
                    received += data
        assert received.startswith(b"HTTP/1.1 101")
        to_master(server)
