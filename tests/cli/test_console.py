"""The console and the commands for scripts, against a real gateway in production, one for all of these tests."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from websockets.sync.client import ClientConnection, connect

from service.cli import main
from tests.cli.running import BARE, PORTICO
from tests.cli.terminal import CTRL_C, CTRL_D, Terminal, terminal
from tests.gateways import Running, gateway

KEY = "a-long-random-text"
PROMPT = "portico>"

pytestmark = pytest.mark.live


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    settings = {"ENVIRONMENT": "production", "PORTICO_API_KEYS": KEY, "PORTICO_ALLOWED_ORIGINS": "*"}
    with gateway(tmp_path_factory.mktemp("gateway"), settings=settings) as one:
        yield one


@contextmanager
def client(running: Running, **identity: str) -> Iterator[ClientConnection]:
    """A C-Client that is connected and registered."""
    with connect(f"{running.websocket_url}/api/websocket") as link:
        link.send(json.dumps({"type": "c_client_register", **identity}))
        assert json.loads(link.recv(30))["type"] == "registration_success"
        yield link


def portico(running: Running, *words: str, key: str | None = KEY, typed: str | None = None) -> Result:
    """A command, in this process."""
    env = {"PORTICO_API_KEY": key, "GATEWAY_API_KEY": None}
    result = CliRunner().invoke(main, [*words, "--base-url", running.base_url], env=env, input=typed)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def test_a_push_arrives_and_its_receipt_is_printed(running: Running) -> None:
    with client(running, client_id="c1", user_id="u1") as link:
        pushed = portico(running, "push", "user:u1", "cart_updated", '{"items": 3}')
        assert json.loads(link.recv(30)) == {"type": "cart_updated", "items": 3}
        durable = portico(running, "push", "client:c1", "note", "--durable", "--id", "n1", "--json")
        assert json.loads(link.recv(30))["stream"] == "client:c1"
        told = portico(running, "broadcast", "back", "at", "ten")
        assert json.loads(link.recv(30)) == {"type": "broadcast", "message": "back at ten", "content": "back at ten"}
    assert (pushed.exit_code, durable.exit_code, told.exit_code) == (0, 0, 0)
    assert pushed.stdout.startswith("pushed to 1 of 1 connections")
    receipt = json.loads(durable.stdout)
    assert (receipt["id"], receipt["stream"], receipt["matched"]) == ("n1", "client:c1", 1)


def test_who_is_connected_is_a_table_or_lines_of_json(running: Running) -> None:
    with client(running, client_id="c2", user_id="Ann Berlin"), client(running, client_id="c3", user_id="bob"):
        shown = portico(running, "clients", "berlin")
        chosen = portico(running, "clients", "user_id=bob", "--json")
        first = portico(running, "clients", "--limit", "1")
    assert "Ann Berlin" in shown.stdout
    assert "bob" not in shown.stdout
    assert [json.loads(line)["client_id"] for line in chosen.stdout.splitlines()] == ["c3"]
    assert "1 of 2" in first.stderr
    status = portico(running, "status", "--json")
    assert json.loads(status.stdout)["by_node"]
    assert "by node" in portico(running, "status").stdout
    assert "no worker is connected" in portico(running, "workers").stdout


def test_a_login_begins_is_listed_and_ends(running: Running) -> None:
    begun = portico(running, "login", "u4", "--username", "Eve", "--more", '{"website_config": {}}', "--json")
    session = json.loads(begun.stdout)
    assert session["website_config"] == {}
    assert session["session_id"] in portico(running, "logins", "u4").stdout
    assert portico(running, "logout", session["session_id"]).exit_code == 0
    again = portico(running, "logout", session["session_id"])
    assert (again.exit_code, again.stdout) == (1, "there is no such session (any more)\n")


def test_a_kick_closes_and_says_how_many(running: Running) -> None:
    with client(running, client_id="c5"):
        kicked = portico(running, "kick", "c5")
    nobody = portico(running, "kick", "c5", "--json")
    assert (kicked.exit_code, kicked.stdout) == (0, "closed 1 connection\n")
    assert (nobody.exit_code, json.loads(nobody.stdout)) == (1, {"client_id": "c5", "kicked": 0})


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["push", "u1", "x"], 2, "is no target"),
        (["push", "user:u1", "x", "[1]"], 2, "must be a JSON object"),
        (["push", "user:u1", "x", "{"], 2, "must be JSON"),
        (["push", "user:u1", ""], 2, "'type'"),
        (["clients", "name=ann"], 2, "There is no filter 'name'"),
        (["send", "nobody", "ping"], 1, "No client of this id"),
        (["request", "echo", "--timeout", "1", "--api-key", KEY], 1, "No available workers"),
    ],
)
def test_what_is_wrong_is_a_sentence_and_an_exit_code(running: Running, words: list[str], code: int, said: str) -> None:
    result = portico(running, *words)
    assert (result.exit_code, said in result.stderr + result.stdout) == (code, True), result.output


def test_errors_name_the_remedy(running: Running) -> None:
    for key in (None, "wrong"):
        refused = portico(running, "clients", key=key)
        assert refused.exit_code == 3
        assert "--api-key" in refused.stderr
        assert "PORTICO_API_KEY." in refused.stderr
    websocket = CliRunner().invoke(
        main, ["workers", "--base-url", running.websocket_url.replace("ws", "http"), "--api-key", KEY]
    )
    assert websocket.exit_code == 3
    assert "a port for WebSockets" in websocket.stderr
    nobody = CliRunner().invoke(main, ["status", "--base-url", "http://127.0.0.1:1"])
    assert nobody.exit_code == 3
    assert "http://127.0.0.1:1" in nobody.stderr
    assert "--base-url" in nobody.stderr


def test_a_worker_without_a_key_is_told_which_one_it_needs(running: Running) -> None:
    result = CliRunner().invoke(main, ["worker", "--base-url", running.base_url], env={"WEBSOCKET_HANDSHAKE_KEY": None})
    assert result.exit_code == 3
    assert "--handshake-key" in result.stderr


def test_lines_given_beforehand_are_all_run_and_the_first_failure_is_the_exit_code(running: Running) -> None:
    with client(running, client_id="c6", user_id="u6"):
        result = portico(
            running, "console", "-c", "list", "-c", "pusj", "-c", "kick c0", "-c", 'push all x {"a": 1} --json'
        )
    assert result.exit_code == 2
    assert "c6" in result.stdout
    assert "did you mean push?" in result.stderr
    assert json.loads(result.stdout.splitlines()[-1])["matched"] == 1


def test_a_console_works_without_a_terminal(running: Running, tmp_path: Path) -> None:
    typed = "# a comment\n\nstats\nhelp push\nlist --live\npush 'all x\nquit\nkick never-read\n"
    done = subprocess.run(
        [*PORTICO, "console", "--base-url", running.base_url],
        input=typed,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=BARE | {"PORTICO_API_KEY": KEY},
        timeout=300,
        check=False,
    )
    assert done.returncode == 2
    assert "connections" in done.stdout
    assert "Usage: push" in done.stdout
    assert "--live draws on a terminal" in done.stderr
    assert "close the quote" in done.stderr
    assert "\x1b" not in done.stdout + done.stderr


@contextmanager
def at_the_console(running: Running, folder: Path, key: str = KEY) -> Iterator[Terminal]:
    env = BARE | {"PORTICO_API_KEY": key}
    with terminal([*PORTICO, "console", "--base-url", running.base_url], cwd=folder, env=env) as one:
        yield one


def test_a_person_at_a_terminal(running: Running, tmp_path: Path) -> None:
    with ExitStack() as stack:
        stack.enter_context(client(running, client_id="c7-with-a-name", user_id="u7"))
        link = stack.enter_context(client(running, client_id="c8", user_id="zoe"))
        at = stack.enter_context(at_the_console(running, tmp_path))
        # Commands complete, and ids that are connected.
        at.at_prompt(PROMPT, "li\t")
        at.expect("portico> list")
        at.type("\r")
        at.expect("c7-with-a-name")
        at.at_prompt(PROMPT, "kick c7\t")
        at.expect("kick c7-with-a-name")
        at.type("\r")
        at.expect("closed 1 connection")
        at.at_prompt(PROMPT, "push user:z\t")
        at.expect("push user:zoe")
        at.type('hi {"n": 1}\r')
        at.expect("pushed to 1 of 1")
        assert json.loads(link.recv(30)) == {"type": "hi", "n": 1}
        # Ctrl-C gives up a line, or ends what runs; the console goes on.
        at.at_prompt(PROMPT, "half a line")
        at.expect("half a line")
        at.type(CTRL_C)
        at.at_prompt(PROMPT, "list --live\r")
        at.expect("1 of 1; Enter or Ctrl-C ends it")
        at.type(CTRL_C)
        at.at_prompt(PROMPT, "pusj\r")
        at.expect("did you mean push?")
        at.at_prompt(PROMPT, CTRL_D)
        assert at.wait() == 0
        assert at.echoes()
    history = tmp_path / "state" / "portico" / "console_history"
    assert "+kick c7-with-a-name" in history.read_text()
    assert history.stat().st_mode & 0o077 == 0


def test_a_console_is_told_at_once_that_its_key_is_wrong_and_ends_cleanly_by_sigterm(
    running: Running, tmp_path: Path
) -> None:
    with at_the_console(running, tmp_path, "wrong") as at:
        at.at_prompt(PROMPT, "workers\r")
        at.expect("--api-key")
        at.at_prompt(PROMPT, "")
        at.process.terminate()
        assert at.wait() == 143
        assert at.echoes()


HOSTILE = "\x1b]0;title\x07 \x9b31m \u202e"


def test_a_listener_prints_what_is_pushed_and_nothing_raw(running: Running, tmp_path: Path) -> None:
    command = [*PORTICO, "listen", "--user-id", "u9", "--count", "2", "--base-url", running.base_url]
    with subprocess.Popen(
        command, cwd=tmp_path, env=BARE, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as listener:
        assert listener.stderr is not None
        while not listener.stderr.readline().startswith("registered"):
            assert listener.poll() is None
        data = json.dumps({"text": HOSTILE})
        for kind in ("first", "second"):
            assert portico(running, "push", "user:u9", kind, data).exit_code == 0
        out, _ = listener.communicate(timeout=60)
    assert listener.returncode == 0
    first, second = out.splitlines()
    assert first.isprintable()
    assert second.isprintable()
    kind, _, shown = first.partition("  ")
    assert (kind, json.loads(shown)) == ("first", {"text": HOSTILE})


def test_a_client_on_the_terminal_asks_is_asked_and_is_pushed_to(running: Running, tmp_path: Path) -> None:
    command = [*PORTICO, "connect", "--client-id", "c10", "--base-url", running.base_url]
    with terminal(command, cwd=tmp_path, env=BARE) as at:
        at.expect("registered as c10")
        at.at_prompt("connected>", 'request calculate {"a": 2, "b": 3, "op": "*"}\r')
        at.expect("\n6")
        assert portico(running, "push", "client:c10", "note", json.dumps({"n": HOSTILE})).exit_code == 0
        at.expect("note  {")
        send = [*PORTICO, "send", "c10", "confirm", '{"order": 7}', "--base-url", running.base_url]
        with subprocess.Popen(
            send, cwd=tmp_path, env=BARE | {"PORTICO_API_KEY": KEY}, text=True, stdout=subprocess.PIPE
        ) as asking:
            at.expect('asked: confirm  {"order":7}')
            at.at_prompt("connected>", 'answer {"confirmed": true}\r')
            out, _ = asking.communicate(timeout=60)
        assert json.loads(out) == {"confirmed": True}
        at.at_prompt("connected>", "quit\r")
        assert at.wait() == 0
    assert b"\x1b]0;" not in at.raw
    assert "\u202e" not in at.raw.decode()


def test_a_client_runs_its_lines_and_ends(running: Running) -> None:
    result = portico(running, "connect", "-c", "request get_client_info", "-c", "answer 1", "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["result"]["total_clients"] >= 1
    assert "nobody has asked" in result.stderr
    nobody = CliRunner().invoke(main, ["connect", "-c", "request get_time", "--base-url", "http://127.0.0.1:1"])
    assert nobody.exit_code == 3
    assert "http://127.0.0.1:1" in nobody.stderr


def test_what_passes_is_shown_as_it_passes(running: Running, tmp_path: Path) -> None:
    command = [*PORTICO, "tail", "event=registered", "user_id=u11", "--count", "1", "--base-url", running.base_url]
    env = BARE | {"PORTICO_API_KEY": KEY}
    with subprocess.Popen(command, cwd=tmp_path, env=env, text=True, stdout=subprocess.PIPE) as tailing:
        # Nothing says that the tail has begun, so somebody comes again and again.
        for _ in range(300):
            with client(running, client_id="c11", user_id="u11"), suppress(subprocess.TimeoutExpired):
                tailing.wait(0.2)
                break
        out, _ = tailing.communicate(timeout=60)
    assert tailing.returncode == 0
    assert "registered" in out
    assert '"user_id":"u11"' in out
