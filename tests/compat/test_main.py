"""`python -m compat` as somebody starts it: exit codes, the table, the closing line, the JSON file."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import trio

from compat.__main__ import main
from compat.script import read
from tests.certificates import Certificate, make_certificate
from tests.gateways import gateway
from tests.little_gateway import LittleGateway, serving


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    """A certificate for this machine that nobody trusts yet."""
    return make_certificate(tmp_path_factory.mktemp("certificate"))


async def compat(*arguments: str) -> tuple[int, list[str], list[str]]:
    """Exit code and the lines on stdout and stderr."""
    environment = {name: value for name, value in os.environ.items() if name != "WEBSOCKET_HANDSHAKE_KEY"}
    done = await trio.run_process(
        [sys.executable, "-m", "compat", *arguments],
        capture_stdout=True,
        capture_stderr=True,
        check=False,
        env=environment,
        stdin=subprocess.DEVNULL,
    )
    return done.returncode, done.stdout.decode().splitlines(), done.stderr.decode().splitlines()


async def test_a_run_prints_the_table_and_the_closing_line_and_writes_the_json(tmp_path: Path) -> None:
    async with serving(LittleGateway()) as url:
        code, lines, errors = await compat(
            "--base-url",
            f"{url}/",
            "--only",
            "heartbeat,requester-no-worker",
            "--client",
            "node",
            "--json",
            str(tmp_path / "r"),
        )
    assert (code, errors) == (0, [])
    assert lines[0].split() == ["scenario", "node"]
    assert lines[2].startswith("heartbeat            passed ")
    assert lines[-1] == "2 passed, 0 failed, 0 skipped"
    document = json.loads((tmp_path / "r").read_text())
    assert (document["base_url"], document["passed"], len(document["results"])) == (url, 2, 2)


async def test_a_failure_makes_the_exit_code_1() -> None:
    async with serving(LittleGateway(["echo to one"])) as url:
        code, lines, _ = await compat(
            "--base-url", url, "--only", "user-dialect", "--timeout", "10", "--client", "bare"
        )
    assert code == 1
    assert lines[-2:] == [
        'FAILED  user-dialect / bare: b got no "Echo: Hello, \\u5b89" within 10 s', "0 passed, 1 failed, 0 skipped",
    ]  # fmt: skip


async def test_a_skip_fails_only_where_that_is_asked_for() -> None:
    async with serving(LittleGateway()) as url:
        arguments = ["--base-url", url, "--only", "address-base-url", "--client", "bare"]
        assert (await compat(*arguments))[0] == 0
        assert (await compat(*arguments, "--fail-on-skip"))[0] == 1


async def test_the_mode_is_found_out_and_may_be_demanded(tmp_path: Path) -> None:
    async with serving(LittleGateway()) as url:
        arguments = ["--base-url", url, "--only", "heartbeat", "--client", "bare", "--json", str(tmp_path / "r")]
        assert (await compat(*arguments, "--mode", "integrated"))[0] == 0
        code, lines, _ = await compat(*arguments, "--mode", "split")
    assert code == 1
    assert "FAILED  mode / bare: it should be split, and is integrated" in lines
    assert json.loads((tmp_path / "r").read_text())["mode"] == "integrated"


async def test_a_deployment_that_cannot_be_reached_is_told_in_one_sentence() -> None:
    with trio.socket.socket() as taken:
        await taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        code, lines, errors = await compat("--base-url", url)
    assert (code, lines, len(errors)) == (2, [], 1)
    assert errors[0].startswith(f"No gateway can be reached at {url}: ")


async def test_a_deployment_that_cannot_tell_where_its_websocket_is() -> None:
    async with serving(LittleGateway(["discovery down"])) as url:
        code, lines, errors = await compat("--base-url", url)
    assert (code, lines, errors) == (2, [], ['The gateway can\'t tell where its WebSocket is: "no node".'])


async def test_something_else_that_answers_is_told_from_a_gateway() -> None:
    async with serving(LittleGateway()) as url:
        code, lines, errors = await compat("--base-url", f"{url}/elsewhere")
    assert (code, lines, len(errors)) == (2, [], 1)
    assert "is no gateway: GET /api/b-client/websocket-info gave 404 and " in errors[0]


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n\x00\xff\xfe\x01",
        b"\x00\xff\xfe\x01" * 10,
        b"HTTP/1.1 200 OK\r\n\r\n" + b"\x00" * 100,
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}",
        b"",
    ],
)
async def test_whatever_answers_instead_of_a_gateway_is_told_in_one_sentence_and_in_time(answer: bytes) -> None:
    async def answers(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_all(answer)
        await trio.sleep_forever()  # and never ends

    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, answers, [listener])
        url = f"http://127.0.0.1:{listener.socket.getsockname()[1]}"
        code, lines, errors = await compat("--base-url", url, "--timeout", "1")
        nursery.cancel_scope.cancel()
    assert (code, lines, len(errors)) == (2, [], 1)
    assert "o gateway" in errors[0]


async def test_a_gateway_that_sends_binary_messages_fails_at_once() -> None:
    """Each read has a deadline, and so has the whole."""
    async with serving(LittleGateway(["binary"])) as url:
        arguments = ["--base-url", url, "--client", "bare", "--client", "node", "--no-api", "--timeout", "2"]
        code, lines, _ = await compat(*arguments, "--only", "register,heartbeat,paths")
    assert (code, lines[-1]) == (1, "0 passed, 6 failed, 0 skipped")
    assert any('"event": "binary"' in line for line in lines)


async def test_a_certificate_that_is_not_trusted_is_told_with_what_helps(tmp_path: Path, made: Certificate) -> None:
    with gateway(tmp_path, certificate=made) as running:
        code, lines, errors = await compat("--base-url", running.base_url)
        trusted = await compat(
            "--base-url", running.base_url, "--ca", str(made.file), "--only", "register,discovery-info", "--client",
            "bare", "--client", "node",
        )  # fmt: skip
    assert (code, lines, len(errors)) == (2, [], 1)
    assert errors[0].startswith(f"The certificate of {running.base_url} is not trusted")
    assert "--ca FILE" in errors[0]
    assert (trusted[0], trusted[1][-1]) == (0, "4 passed, 0 failed, 0 skipped")


async def test_a_key_that_is_missing_is_asked_for_or_done_without() -> None:
    bare = ("--client", "bare")
    async with serving(LittleGateway(api_key="k1")) as url:
        asked = await compat("--base-url", url, "--only", "user-dialect", *bare)
        without = await compat("--base-url", url, "--only", "user-dialect,heartbeat", "--no-api", *bare)
        with_it = await compat("--base-url", url, "--only", "user-dialect", "--api-key", "k1", *bare)
    assert (asked[0], asked[1], len(asked[2])) == (2, [], 1)
    assert "--api-key" in asked[2][0]
    assert (without[0], without[1][-1]) == (0, "1 passed, 0 failed, 1 skipped")
    assert (with_it[0], with_it[1][-1]) == (0, "1 passed, 0 failed, 0 skipped")


async def test_an_interrupted_run_leaves_nothing_behind_and_writes_what_it_has(tmp_path: Path) -> None:
    # Without auto_login the second scenario waits for one, with a login session of its own, until it is interrupted.
    gateway = LittleGateway(["no auto_login"])
    async with serving(gateway) as url:
        found, page = tmp_path / "r", tmp_path / "page"
        arguments = ["--base-url", url, "--only", "heartbeat,auto-login-on-registration", "--timeout", "60"]
        arguments += ["--client", "bare", "--json", str(found), "--html", str(page)]
        process = await trio.lowlevel.open_process(
            [sys.executable, "-m", "compat", *arguments], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL
        )
        with trio.fail_after(60):
            await gateway.login_started.wait()
            process.send_signal(signal.SIGINT)
            assert await process.wait() == 130
            while gateway.peers:
                await trio.lowlevel.checkpoint()
        assert gateway.logins == {}
        assert process.stderr is not None
        said = await process.stderr.receive_some()
    assert said == b"Interrupted; what the run had made is cleared away.\n"
    document = json.loads(found.read_text())
    assert (document["complete"], [row["scenario"] for row in document["results"]]) == (False, ["heartbeat"])
    assert "broken off" in page.read_text()


def test_list_shows_every_scenario(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == [row.name for row in read()]


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ([], "Say where the deployment is"),
        (["--base-url", "localhost:8000"], "is no base URL"),
        (["--base-url", "http://localhost:notaport"], "is no base URL"),
        (["--base-url", "http://x", "--timeout", "0"], "is no time limit"),
        (["--base-url", "http://x", "--timeout", "nan"], "is no time limit"),
        (["--base-url", "http://x", "--client", "perl"], "invalid choice: 'perl'"),
    ],
)
def test_wrong_usage_exits_with_2(arguments: list[str], why: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert why in capsys.readouterr().err.splitlines()[-1]


def test_a_scenario_that_is_not_there_exits_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--base-url", "http://x", "--only", "kcik"]) == 2
    assert capsys.readouterr().err == "There is no scenario 'kcik': --list shows those that there are.\n"
