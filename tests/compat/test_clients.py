"""The client programs by themselves: their attempts, their sentences, their end."""

import json
import subprocess
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio

from compat.clients import KINDS as COLUMNS
from compat.clients import ProcessClient
from tests.gateways import gateway
from tests.little_gateway import LittleGateway, serving

from .documented_clients import KINDS, LoneClient, command


async def run_to_its_end(kind: str, *arguments: str) -> tuple[int, list[dict[str, Any]], list[str]]:
    """Exit code, reports and lines on stderr of a client that ends by itself."""
    done = await trio.run_process(
        [*await command(kind), *arguments],
        capture_stdout=True,
        capture_stderr=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    reports = [json.loads(line) for line in done.stdout.splitlines()]
    return done.returncode, reports, done.stderr.decode().splitlines()


@pytest.mark.parametrize("kind", KINDS)
async def test_three_attempts_then_one_sentence(kind: str) -> None:
    async with serving(LittleGateway(["discovery down"])) as url:
        code, reports, lines = await run_to_its_end(kind, "--base-url", url, "--waits", "0.01,0.02")
    attempts = [report for report in reports if report["event"] == "attempt_failed"]
    assert [(report["attempt"], report["wait_s"]) for report in attempts] == [(1, 0.01), (2, 0.02), (3, None)]
    assert code == 1
    assert len(lines) == 1
    assert lines[0].startswith("Gave up after 3 attempts: GET ")
    assert lines[0].endswith(" answered 503.")
    assert reports[-1] == {"event": "failed", "sentence": lines[0]}


@pytest.mark.parametrize("kind", KINDS)
async def test_nobody_listening_is_told_in_one_sentence(kind: str) -> None:
    with trio.socket.socket() as taken:  # bound and never listening: nobody else can listen there either
        await taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        code, _, lines = await run_to_its_end(kind, "--base-url", url, "--waits", "0.01,0.02")
    assert (code, len(lines)) == (1, 1)
    assert lines[0].startswith("Gave up after 3 attempts: GET ")
    assert " failed: " in lines[0]


@pytest.mark.parametrize("kind", KINDS)
async def test_unless_told_otherwise_it_waits_1_and_2_seconds_and_gets_in_at_the_third_attempt(kind: str) -> None:
    gateway = LittleGateway(["discovery down twice"])
    async with serving(gateway) as url, trio.open_nursery() as nursery:
        program = await LoneClient.start(kind, await command(kind), ["--base-url", url], timeout=20, nursery=nursery)
        for wait in (1, 2):
            report = await program.take("failed attempt", lambda report: report["event"] == "attempt_failed")
            assert report["wait_s"] == wait
            if wait == 1:
                await program.tell("heartbeat")  # nobody is there yet: it is obeyed once there is
        await program.message("registration_success")
        await program.message("heartbeat")
        await program.leave()
    assert gateway.discovered == 3


@pytest.mark.parametrize("kind", KINDS)
async def test_a_rejection_is_told_in_one_sentence_and_not_retried(kind: str) -> None:
    gateway = LittleGateway()
    async with serving(gateway) as url:
        code, reports, lines = await run_to_its_end(kind, "--base-url", url, "--client-id", "x" * 129)
    assert (code, lines) == (1, ["The gateway rejected the registration: Long. (bad_field)."])
    assert not [report for report in reports if report["event"] == "attempt_failed"]
    assert gateway.discovered == 1


@pytest.mark.parametrize("kind", KINDS)
async def test_a_client_leaves_when_its_starter_does(kind: str) -> None:
    gateway = LittleGateway()
    async with serving(gateway) as url, trio.open_nursery() as nursery:
        program = await LoneClient.start(kind, await command(kind), ["--base-url", url], timeout=20, nursery=nursery)
        await program.message("registration_success")
        assert len(gateway.peers) == 1
        await program.leave()
        closed = await program.take("close", lambda report: report["event"] == "closed")
        assert closed["code"] == 1000


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--base-url", "http://x", "--discovery", "info"], "names no URL"),
        (["--base-url", "http://x:8000", "--address", "base-url"], "names a port already"),
        (["--base-url", "https://x", "--address", "host-port"], "over https only the url way"),
        ([], "base-url"),
    ],
)
async def test_wrong_usage_is_told_and_exits_with_2(kind: str, arguments: list[str], why: str) -> None:
    code, reports, lines = await run_to_its_end(kind, *arguments)
    assert (code, reports) == (2, [])
    assert why in lines[-1]


async def test_the_handshake_of_a_javascript_client_never_goes_out_on_the_connection_of_its_discovery() -> None:
    """A connection that is kept may be closed by the server at this very moment, and the handshake with it."""
    requests: list[tuple[int, bool]] = []

    async def serve(stream: trio.SocketStream) -> None:
        connection = stream.socket.getpeername()[1]
        data = b""
        try:
            async for part in stream:
                data += part
                while b"\r\n\r\n" in data:
                    head, _, data = data.partition(b"\r\n\r\n")
                    upgrade = b"upgrade: websocket" in head.lower()
                    requests.append((connection, upgrade))
                    status = b"404 Not Found" if upgrade else b"200 OK"
                    await stream.send_all(
                        b"HTTP/1.1 " + status + b"\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}"
                    )
        except trio.BrokenResourceError:
            return

    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, serve, [listener])
        where = f"127.0.0.1:{listener.socket.getsockname()[1]}"
        client = await ProcessClient.start(COLUMNS["node"], nursery)
        await client.tell({"do": "discover", "on": "it", "form": "websocket-info", "base": f"http://{where}"})
        assert (await client.line("it").take(60) or {})["event"] == "found"
        # By now the connection is idle, where it is still there.
        await client.tell({"do": "connect", "on": "it", "url": f"ws://{where}/"})
        assert (await client.line("it").take(60) or {})["event"] == "address"
        assert (await client.line("it").take(60) or {})["event"] == "refused"
        await client.leave()
        nursery.cancel_scope.cancel()
    (discovery, first), (handshake, second) = requests
    assert (first, second) == (False, True)
    assert discovery != handshake


@pytest.mark.live
async def test_each_of_them_lives_its_whole_life_on_a_real_gateway(tmp_path: Path) -> None:
    with gateway(tmp_path) as live:
        async with trio.open_nursery() as nursery, httpx.AsyncClient(base_url=live.base_url, trust_env=False) as http:
            for kind in KINDS:
                arguments = ["--base-url", live.base_url, "--client-id", kind, "--user-id", f"user-of-{kind}"]
                program = await LoneClient.start(kind, await command(kind), arguments, timeout=60, nursery=nursery)
                await program.message("registration_success", client_id=kind)
                session = (await http.post("/api/logins", json={"user_id": f"user-of-{kind}"})).json()
                await program.message("auto_login", session_id=session["session_id"])
                await program.tell("heartbeat")
                await program.message("heartbeat")
                await program.tell("register", identity={"user_id": f"another-of-{kind}"})
                await program.message("registration_success", user_id=f"another-of-{kind}")
                await http.delete(f"/api/clients/{kind}")
                await program.closed(4010)
                assert "4010" in await program.failed()
                await program.leave()
