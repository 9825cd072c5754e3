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
from compat.scenarios import ALL
from tests.little_gateway import LittleGateway, serving


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
            "--base-url", f"{url}/", "--only", "heartbeat,user-dialect", "--client", "js", "--json", str(tmp_path / "r")
        )
    assert (code, errors) == (0, [])
    assert lines[0].split() == ["scenario", "js", "protocol"]
    assert lines[2].startswith("heartbeat     passed ")
    assert lines[-1] == "2 passed, 0 failed, 0 skipped"
    document = json.loads((tmp_path / "r").read_text())
    assert (document["base_url"], document["passed"], len(document["results"])) == (url, 2, 2)


async def test_a_failure_makes_the_exit_code_1() -> None:
    async with serving(LittleGateway(["echo to one"])) as url:
        code, lines, _ = await compat("--base-url", url, "--only", "user-dialect", "--timeout", "2")
    assert code == 1
    assert lines[-2:] == ["FAILED  user-dialect / protocol: no echo within 2 s", "0 passed, 1 failed, 0 skipped"]


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
    assert errors[0].endswith("is no gateway: GET /api/b-client/websocket-info gave 404.")


async def test_a_key_that_is_missing_is_asked_for_or_done_without() -> None:
    async with serving(LittleGateway(api_key="k1")) as url:
        asked = await compat("--base-url", url, "--only", "user-dialect")
        without = await compat("--base-url", url, "--only", "user-dialect,requester-no-worker", "--no-api")
        with_it = await compat("--base-url", url, "--only", "user-dialect", "--api-key", "k1")
    assert (asked[0], asked[1], len(asked[2])) == (2, [], 1)
    assert "--api-key" in asked[2][0]
    assert (without[0], without[1][-1]) == (0, "1 passed, 0 failed, 1 skipped")
    assert (with_it[0], with_it[1][-1]) == (0, "1 passed, 0 failed, 0 skipped")


async def test_an_interrupted_run_leaves_nothing_behind() -> None:
    # Without auto_login the scenario waits for one, with a login session of its own, until it is interrupted.
    gateway = LittleGateway(["no auto_login"])
    async with serving(gateway) as url:
        arguments = ["--base-url", url, "--only", "auto-login-on-registration", "--timeout", "60"]
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


def test_list_shows_every_scenario(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == [row.name for row in ALL]


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
