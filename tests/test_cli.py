import json
import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from click.testing import CliRunner

from service.cli import main
from tests.portico.client.fake_gateway import Peer, fake_gateway, fake_http

PORTICO = [sys.executable, "-m", "service.cli"]

# What the machine that runs the tests has set must not decide them.
BARE = {"PATH": os.environ["PATH"], "PYTHONPATH": str(Path(__file__).parent.parent)}


async def portico(*arguments: str, cwd: Path | None = None, **env: str) -> tuple[int, str, str]:
    with trio.fail_after(60):
        done = await trio.run_process(
            [*PORTICO, *arguments],
            capture_stdout=True,
            capture_stderr=True,
            check=False,
            cwd=cwd,
            env=BARE | env,
        )
    assert b"Traceback" not in done.stderr, done.stderr.decode()
    return done.returncode, done.stdout.decode(), done.stderr.decode()


async def answering(peer: Peer) -> None:
    while True:
        request = await peer.next()
        answer: dict[str, Any] = {"request_id": request["request_id"], "success": True, "error": None}
        answer |= {"data": request["data"], "processed_by": "w1"}
        if request["command"] == "fail":
            answer |= {"success": False, "data": None, "error": "No available workers"}
        if request.get("stream"):
            await peer.say(answer | {"partial": True})
            answer["data"] = None
        await peer.say(answer)


@pytest.mark.parametrize(
    "arguments", [[], ["serve"], ["worker"], ["request"], ["check"]], ids=lambda given: given or "portico"
)
def test_every_command_explains_itself(arguments: list[str]) -> None:
    result = CliRunner().invoke(main, [*arguments, "--help"])
    assert result.exit_code == 0
    assert "Usage:" in result.output


def test_the_version() -> None:
    result = CliRunner().invoke(main, ["--version"])
    assert result.exit_code == 0
    assert result.output.startswith("portico 0.")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["request", "echo", "{not json"], "must be JSON"),
        (["request", "echo", "NaN"], "must be JSON"),
        (["request", "echo", "--url", "http://localhost:1"], "not an address like ws://"),
        (["request", "echo", "--base-url", "localhost"], "not an address like http://"),
        (["request", "echo", "--url", "ws://a", "--base-url", "http://a"], "not both"),
        (["request", "echo", "--count", "0"], "--count"),
        (["request", "echo", "--timeout", "0"], "--timeout"),
        (["request", "echo", "--stream", "--count", "5"], "not both"),
        (["request"], "Missing argument"),
        (["worker", "--commands", "get_time,rm"], "no command 'rm'"),
        (["worker", "--capacity", "0"], "--capacity"),
        (["worker", "--url", "nowhere"], "not an address like ws://"),
        (["frobnicate"], "No such command"),
    ],
)
def test_what_is_wrong_is_said_in_a_sentence_and_is_exit_code_2(arguments: list[str], said: str) -> None:
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2
    assert said in result.stderr
    assert result.stdout == ""


async def test_request_prints_the_answer_and_nothing_else() -> None:
    async with fake_gateway(answering) as gateway:
        data = {"message": "Hello Wörld"}
        code, out, err = await portico("request", "echo", json.dumps(data), "--url", gateway.url)
    assert (code, err) == (0, "")
    answer = json.loads(out)
    assert answer.keys() >= {"request_id", "success", "data", "error", "processed_by"}
    assert (answer["data"], answer["processed_by"]) == (data, "w1")


async def test_request_asks_the_http_address_where_the_websocket_is() -> None:
    async with fake_gateway(answering) as gateway:
        found = {"websocket_url": f"{gateway.url}/api/websocket"}
        async with fake_http(lambda _: (200, found)) as base_url:
            code, out, _ = await portico("request", "get_time", "--base-url", base_url)
    assert code == 0
    assert json.loads(out)["data"] is None
    assert gateway.paths == ["/requester"]


async def test_an_error_answer_is_printed_too_and_is_exit_code_1() -> None:
    async with fake_gateway(answering) as gateway:
        code, out, _ = await portico("request", "fail", "--url", gateway.url)
    assert code == 1
    assert json.loads(out)["error"] == "No available workers"


async def test_nobody_there_is_exit_code_3_after_as_many_attempts_as_asked_for() -> None:
    async with fake_gateway(answering) as gateway:
        pass
    code, out, err = await portico("request", "echo", "--url", gateway.url, "--attempts", "2")
    assert (code, out) == (3, "")
    assert err.count("lost:") == 2
    assert err.count("retry in") == 1
    assert "Gave up after 2" in err


async def test_request_tries_again() -> None:
    async with fake_gateway(answering) as gateway:
        gateway.slam = 1
        code, out, err = await portico("request", "echo", "1", "--url", gateway.url)
    assert code == 0
    assert json.loads(out)["data"] == 1
    assert "(attempt 2)" in err


async def test_request_streams_a_part_a_line() -> None:
    async with fake_gateway(answering) as gateway:
        code, out, _ = await portico("request", "echo", "[1]", "--stream", "--url", gateway.url)
        failed, _, err = await portico("request", "fail", "--stream", "--url", gateway.url)
    assert (code, out) == (0, "[1]\n")
    assert failed == 1
    assert "No available workers" in err


async def test_request_calls_many_times_over_one_connection() -> None:
    async with fake_gateway(answering) as gateway:
        code, out, _ = await portico(
            "request", "echo", "1", "--count", "200", "--concurrency", "20", "--url", gateway.url
        )
        failed, failures, _ = await portico("request", "fail", "--count", "3", "--url", gateway.url)
        assert gateway.connections == 2
    summary = json.loads(out)
    assert code == 0
    assert (summary["answered"], summary["failed"], summary["by_worker"]) == (200, 0, {"w1": 200})
    assert failed == 1
    assert json.loads(failures)["errors"] == {"No available workers": 3}


async def test_many_calls_survive_a_lost_connection_and_count_what_it_cost() -> None:
    async def script(peer: Peer) -> None:
        if peer.number == 0:
            for _ in range(4):
                await peer.next()
            await peer.drop()
        await answering(peer)

    async with fake_gateway(script) as gateway:
        code, out, err = await portico("request", "echo", "--count", "50", "--concurrency", "4", "--url", gateway.url)
    summary = json.loads(out)
    assert code == 1
    assert (summary["answered"], summary["failed"]) == (46, 4)
    assert "lost:" in err


async def greet(peer: Peer) -> dict[str, Any]:
    introduction = await peer.next()
    await peer.say({"type": "connect", "data": {"client_id": introduction["data"]["client_id"]}})
    data = introduction["data"]
    assert isinstance(data, dict)
    return data


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
async def test_worker_serves_reconnects_says_so_and_ends_cleanly(sent: signal.Signals) -> None:
    answered = trio.Event()
    introductions: list[dict[str, Any]] = []
    answers: list[dict[str, Any]] = []

    async def script(peer: Peer) -> None:
        introductions.append(await greet(peer))
        if peer.number == 0:
            await peer.close(1012, "retry_within_ms=1")
            return
        params = {"a": 6, "b": 7, "op": "*"}
        await peer.say({"type": "request", "msg_id": "r1", "data": {"action": "calculate", "params": params}})
        answers.append((await peer.next_of("response"))["data"])
        answered.set()
        while (message := await peer.next())["type"] != "disconnect":
            if message["type"] == "heartbeat":
                await peer.say({"type": "heartbeat", "data": {}})

    async with fake_gateway(script) as gateway, trio.open_nursery() as nursery:
        process = await nursery.start(
            partial(
                trio.run_process,
                [*PORTICO, "worker", "--url", gateway.url, "--name", "w1", "--commands", "get_time,calculate"],
                capture_stderr=True,
                env=BARE | {"WEBSOCKET_HANDSHAKE_KEY": "sesame"},
            )
        )
        with trio.fail_after(60):
            await answered.wait()
            process.send_signal(sent)
            assert await process.wait() == 0
    assert [i["token"] for i in introductions] == ["sesame", "sesame"]
    assert introductions[0]["commands"] == ["calculate", "get_time"]
    assert answers[0]["result"] == 42


async def test_worker_tells_a_line_per_event() -> None:
    async def script(peer: Peer) -> None:
        await greet(peer)
        await peer.close(1012 if peer.number == 0 else 4010, "retry_within_ms=1")

    async with fake_gateway(script) as gateway:
        code, out, err = await portico("worker", "--url", gateway.url, "--name", "w1")
    lines = [line.partition(" ")[0] for line in err.splitlines()]
    assert (code, out) == (3, "")
    assert lines == ["connecting", "registered", "lost:", "retry", "connecting", "registered", "portico:"]
    assert "kicked" in err


async def test_check_prints_what_is_in_force_and_masks_secrets(tmp_path: Path) -> None:
    code, out, err = await portico("check", cwd=tmp_path, WEBSOCKET_HANDSHAKE_KEY="sesame-open-now", PORT="3000")
    assert (code, err) == (0, "")
    rows = {line.split()[0]: line for line in out.splitlines()}
    assert "3000" in rows["PORT"]
    assert "environment" in rows["PORT"]
    assert "sesame" not in out


@pytest.mark.parametrize("command", ["check", "serve"])
async def test_bad_settings_are_a_sentence_each_and_exit_code_2(command: str, tmp_path: Path) -> None:
    code, out, err = await portico(command, cwd=tmp_path, PORT="many", PORTICO_QUEUE_LIMTI="5")
    assert (code, out) == (2, "")
    assert len(err.splitlines()) == 2
    assert all(line.startswith("portico: ") for line in err.splitlines())
    assert "PORTICO_QUEUE_LIMIT" in err


@pytest.mark.parametrize(
    ("options", "env", "expected"),
    [
        (["--port", "3000"], {}, ("development", 3000, 8766)),
        (["--port", "3000"], {"PORT": "4000"}, ("production", 3000, 3001)),
        (["--port", "3000"], {"PORT": "4000", "ENVIRONMENT": "development"}, ("development", 3000, 8766)),
        (["--websocket-port", "same"], {}, ("development", 8000, None)),
        ([], {"PORT": "4000"}, ("production", 4000, 4001)),
    ],
)
def test_options_of_serve_override_and_a_typed_port_is_no_platform_s(
    options: list[str],
    env: dict[str, str],
    expected: tuple[str, int, int | None],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    seen: list[tuple[str, int, int | None]] = []

    def record(settings: Any) -> int:
        seen.append((settings.environment, settings.port, settings.websocket_port))
        return 0

    monkeypatch.chdir(tmp_path)
    for name in ("PORT", "ENVIRONMENT", "WEBSOCKET_PORT", "WORKER_PORT", "HOST"):
        monkeypatch.delenv(name, raising=False)
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("service.app.serve", record)
    result = CliRunner().invoke(main, ["serve", *options])
    assert result.exit_code == 0, result.output
    assert seen == [expected]


def test_the_module_runs_as_a_program() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "service", "--version"], capture_output=True, text=True, check=True, env=BARE
    )
    assert done.stdout.startswith("portico ")
