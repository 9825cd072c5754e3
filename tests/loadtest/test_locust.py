"""The real `locust -f loadtest` against a small gateway, sound or with faults to order."""

import http.server
import os
import re
import signal
import subprocess
import sys
import threading
from contextlib import ExitStack
from pathlib import Path

import pytest

from loadtest._result import read
from tests.gateways import ROOT
from tests.little_gateway import LittleGateway, little_gateway
from tests.loadtest.forked_locust import CLOCK_AHEAD, SLOW_WORKERS, ForkedLocust
from tests.loadtest.locust_run import (
    STEPS,
    free_port,
    outcome,
    run,
    run_command,
    started,
    thresholds,
    two_processes,
    until_held,
)

# Wide in time, as the machine may be busy, and narrow in everything else.
WIDE = (
    "\n".join(f"[steps.{step}]\nmax_failure_ratio = 0\nmax_ms = 60000" for step in STEPS)
    + "\n[run]\nmin_registered = 6\nmin_registered_share = 1\nmax_unexpected_disconnects = 0\nmin_delivered_share = 1\n"
    + "max_doubled = 0\n"
)
SHORT = (
    *("-u", "6", "-r", "60", "-t", "4s", "--heartbeat-interval", "0.5", "--push-rate", "10", "--broadcast-rate", "2"),
    "--no-observer",
)
ENDLESS = (*SHORT[:4], *SHORT[6:])
"""The same, until it is ended."""
SETTLES_NEVER = ("--settle-time", "4")
"""Something is never answered, or nowhere delivered. What is, is within that, though the gateway stand still."""
ALL = 2 * len(STEPS) + 7
"""Thresholds in WIDE: what is delivered counts for each of the two kinds of pushes, and protocol errors in any case."""


@pytest.fixture
def wide(tmp_path: Path) -> str:
    return thresholds(tmp_path, WIDE)


def test_a_sound_gateway_passes_and_every_step_is_in_the_statistics(wide: str) -> None:
    with little_gateway() as gateway:
        ended = run_command("--host", gateway.base_url, "--thresholds", wide, *SHORT)
    assert (ended.code, ended.failed()) == (0, set()), ended.stdout
    assert len(ended.rows) == ALL
    assert f"PASSED: all {ALL} thresholds" in ended.stdout
    assert "Traceback" not in ended.stderr
    assert ended.errors() == set()
    for step in STEPS:
        assert re.search(rf"^(HTTP|WS) +{step} +[1-9]", ended.stderr, re.MULTILINE), step
    assert gateway.registrations == 6
    targets = [notification["target"] for notification in gateway.pushed]
    assert {"all": True} in targets
    assert any(isinstance(target, dict) and "user_id" in target for target in targets)


def test_a_threshold_that_cannot_be_met_ends_with_3(tmp_path: Path) -> None:
    path = thresholds(tmp_path, "[steps.discover]\nmax_ms = 0.0001\nmax_failure_ratio = 0\n")
    with (
        little_gateway() as gateway,
        started("--host", gateway.base_url, "--thresholds", str(path), *ENDLESS) as process,
    ):
        until_held(process, 6)
        process.send_signal(signal.SIGINT)
        ended = outcome(process)
    assert (ended.code, ended.failed()) == (3, {"discover max_ms"}), ended.stdout
    assert ended.rows["discover max_failure_ratio"] == "OK"


@pytest.mark.parametrize("processes", [(), ("--processes", "2")])
def test_a_bad_thresholds_file_ends_with_2_before_anything_starts(tmp_path: Path, processes: tuple[str, ...]) -> None:
    path = thresholds(tmp_path, "[steps.connect]\np95 = 3\n")
    ended = run("--host", "http://127.0.0.1:9", "-t", "1s", *processes, LOADTEST_THRESHOLDS=str(path))
    assert ended.code == 2
    assert ended.stderr.startswith(
        f"locust: error: argument --thresholds: The thresholds file {path} has an unknown threshold in "
        "[steps.connect], 'p95': those there are, are "
    )
    assert ended.stderr.count("\n") == 1
    assert ended.stdout == ""


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--push-rate", "nan"), "argument --push-rate: 'nan' is not a number of at least 0."),
        (("--step-timeout", "0"), "argument --step-timeout: '0' is not a number above 0."),
        (("--shape", "spiral"), "argument --shape: invalid choice: 'spiral'"),
        ((), "--host is missing: give the gateway's address, such as http://localhost:8000."),
        (("--host", "localhost:8000"), "--host is not an http:// or https:// address: 'localhost:8000'."),
    ],
)
def test_an_option_that_cannot_be_used_ends_with_2(arguments: tuple[str, ...], sentence: str) -> None:
    ended = run("-t", "1s", *arguments)
    assert ended.code == 2
    assert f"locust: error: {sentence}" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("processes", [(), ("--processes", "2")])
def test_where_nobody_is_nothing_is_started(processes: tuple[str, ...]) -> None:
    host = f"http://127.0.0.1:{free_port()}"
    ended = run("--host", host, "-t", "1s", *processes)
    assert ended.code == 2
    assert ended.stdout == ""
    sentence = f"locust: error: Nobody is at {host} (no answer: Connection refused): start the gateway there"
    assert [line.partition(", or")[0] for line in ended.stderr.splitlines() if "error" in line] == [sentence]
    assert "Traceback" not in ended.stderr


def test_what_is_no_gateway_is_not_tried() -> None:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(404)

        def log_message(self, *_: object) -> None:
            """It has nothing to say."""

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever).start()
        try:
            ended = run("--host", f"http://127.0.0.1:{server.server_port}", "-t", "1s")
        finally:
            server.shutdown()
    assert ended.code == 2
    assert "is no gateway (discovery answered 404 instead of 200)" in ended.stderr


def until_measured(process: ForkedLocust, gateway: LittleGateway) -> None:
    """Wait until there is some of everything from the time in which all users were there, however late that is."""
    until_held(process, 6)
    seen = len(gateway.pushed)
    gateway.wait_for(lambda: len(gateway.pushed) >= seen + 36)


@pytest.mark.parametrize("slow", ["0", "2"])
def test_two_processes_are_judged_together_by_the_master(wide: str, slow: str) -> None:
    """Also where they are ready later than their master, who has them start users meanwhile."""
    arguments = ("--thresholds", wide, *ENDLESS, *two_processes())
    with (
        little_gateway() as gateway,
        started("--host", gateway.base_url, *arguments, **{SLOW_WORKERS: slow}) as process,
    ):
        until_measured(process, gateway)
        process.send_signal(signal.SIGINT)
        ended = outcome(process)
        pushers = {str(notification["id"]).split("-")[0] for notification in gateway.pushed}
    # Each process has half of the six clients, so six registered at once is what only the master can know.
    assert (ended.code, ended.failed()) == (0, set()), ended.stdout + ended.stderr
    assert ended.errors() == set()
    assert len(ended.rows) == ALL
    assert ended.stdout.count("PASSED") == 1
    assert len(pushers) == 2
    assert "Traceback" not in ended.stderr


def test_machines_whose_clocks_differ_are_judged_by_the_masters(wide: str, tmp_path: Path) -> None:
    """A master and two machines with workers, two on one and one on the other, which is an hour ahead.

    The workers are told nothing of the test itself: its options are the master's.
    """
    port, found = str(free_port()), tmp_path / "result.json"
    at_master = ("--master-host", "127.0.0.1", "--master-port", port)
    with ExitStack() as stack:
        gateway = stack.enter_context(little_gateway())
        master = stack.enter_context(
            started(
                *("--master", "--master-bind-host", "127.0.0.1", "--master-bind-port", port, "--expect-workers", "3"),
                *("--host", gateway.base_url, "--thresholds", wide, *ENDLESS, "--result", str(found)),
            )
        )
        workers = [
            stack.enter_context(started("--worker", *at_master, *processes, **{CLOCK_AHEAD: ahead}))
            for ahead, processes in (("0", ("--processes", "2")), ("3600", ()))
        ]
        until_measured(master, gateway)
        master.send_signal(signal.SIGINT)
        ended = outcome(master)
        left = [outcome(worker) for worker in workers]
    # Each delivery would be an hour late or early, where clocks are not put right.
    assert (ended.code, ended.failed()) == (0, set()), ended.stdout + ended.stderr
    assert [(worker.code, "Traceback" in worker.stderr) for worker in left] == [(0, False), (0, False)], left
    result = read(found)
    assert sorted(round(clock.offset_ms / 3_600_000) for clock in result.clocks) == [-1, 0, 0]
    assert result.run.load.processes == 3
    assert {kind: each.lost for kind, each in result.run.deliveries.items()} == {"aimed": 0, "broadcast": 0}


def both(*steps: str) -> set[str]:
    """All thresholds on these steps."""
    return {f"{step} {limit}" for step in steps for limit in ("max_failure_ratio", "max_ms")}


NOBODY = both("register", "heartbeat", "delivery", "broadcast") | {
    *("min_registered", "min_registered_share", "max_unexpected_disconnects", "min_delivered_share"),
    "the number of users held",
}
FAULTS: dict[str, set[str]] = {
    "connections refused": both("connect") | NOBODY,
    "registrations rejected": NOBODY,
    "no heartbeat": both("heartbeat"),
    "heartbeats answered twice": {"max_protocol_errors"},
    # Its receipts say that nobody was there.
    "every fifth push dropped": {"min_aimed_delivered_share", "max_protocol_errors"},
    "pushes repeated": {"delivery max_failure_ratio", "broadcast max_failure_ratio", "max_doubled"},
    "push to all": {"delivery max_failure_ratio"},
    "cut after three heartbeats": {"max_unexpected_disconnects"},
}
LOST = {"no heartbeat", "every fifth push dropped", "cut after three heartbeats"}


@pytest.mark.parametrize(("fault", "failed"), FAULTS.items(), ids=FAULTS.keys())
def test_a_faulty_gateway_fails_where_its_fault_is(wide: str, fault: str, failed: set[str]) -> None:
    with little_gateway([fault]) as gateway:
        settles = SETTLES_NEVER if fault in LOST else ()
        gateway.cuts_none_before = 6
        longer = ("-t", "8s") if fault.startswith("cut") else ()  # until everybody has had three heartbeats
        ended = run("--host", gateway.base_url, "--thresholds", wide, *SHORT, *longer, *settles)
    assert ended.code == 3, ended.stdout
    # A connection that is cut takes heartbeats and pushes with it, or not; every fifth push is one to all, or not.
    chance = {"min_broadcast_delivered_share"} if fault.startswith(("cut", "every fifth")) else set()
    if fault.startswith("cut"):
        chance |= {"heartbeat max_failure_ratio", "min_aimed_delivered_share"}
    assert ended.failed() - chance == failed, ended.stdout
    if failed == {"max_protocol_errors"}:
        assert "- a heartbeat answered twice, or unasked (load-" in ended.stdout
        assert re.search(r'^    < [\d:.]+ \{"type": "heartbeat"\}$', ended.stdout, re.MULTILINE)
    assert "Traceback" not in ended.stderr


def test_a_gateway_that_takes_a_second_for_each_push_is_measured_at_a_second(tmp_path: Path) -> None:
    limits = "[steps.push]\nmax_failure_ratio = 0\np50_ms = 999\n[run]\nmin_aimed_delivered_share = 1\n"
    # Ten a second, each for a second: one after the other nine in ten would never be sent, and the rest seconds late.
    with little_gateway(["pushes accepted late"]) as gateway:
        ended = run("--host", gateway.base_url, "--thresholds", thresholds(tmp_path, limits), *SHORT)
        sent = len(gateway.pushed)
    assert (ended.code, ended.failed()) == (3, {"push p50_ms"}), ended.stdout
    assert ended.errors() == set()
    assert sent > 15


def test_pushes_that_are_refused_fail(wide: str) -> None:
    with little_gateway(["pushes refused"]) as gateway:
        ended = run("--host", gateway.base_url, "--thresholds", wide, *SHORT, *SETTLES_NEVER)
    assert (ended.code, ended.failed()) == (
        3,
        both("push", "delivery", "broadcast") | {"min_aimed_delivered_share", "min_broadcast_delivered_share"},
    ), ended.stdout


@pytest.mark.parametrize("processes", [(), ("--processes", "2")])
def test_where_the_key_is_refused_nothing_is_started(processes: tuple[str, ...]) -> None:
    with little_gateway(api_key="other") as gateway:
        ended = run("--host", gateway.base_url, *SHORT, *processes, LOADTEST_API_KEY="wrong-key")
        assert (gateway.registrations, gateway.pushed) == (0, [])
    assert (ended.code, ended.stdout) == (2, "")
    (sentence,) = [line for line in ended.stderr.splitlines() if "error" in line]
    assert sentence.startswith(f"locust: error: The gateway at {gateway.base_url} lets this test push nothing")
    assert "Traceback" not in ended.stderr
    assert "wrong-key" not in ended.stderr


def test_slow_heartbeats_are_timed_from_when_they_were_due(tmp_path: Path) -> None:
    path = thresholds(tmp_path, "[steps.heartbeat]\np50_ms = 800\n[steps.register]\nmax_failure_ratio = 0\n")
    # Each answer takes half a second, and one is asked for every quarter: timed from when a sluggish client
    # would have asked they all take half a second, and from when they were due, longer and longer.
    with little_gateway(["heartbeats answered late"]) as gateway:
        ended = run("--host", gateway.base_url, "--thresholds", str(path), *SHORT, "--heartbeat-interval", "0.25")
    assert (ended.code, ended.failed()) == (3, {"heartbeat p50_ms"}), ended.stdout


def test_the_api_key_comes_from_the_environment_and_is_not_told(wide: str) -> None:
    with little_gateway(api_key="secret-key") as gateway:
        ended = run("--host", gateway.base_url, "--thresholds", wide, *SHORT, LOADTEST_API_KEY="secret-key")
    assert (ended.code, ended.failed()) == (0, set()), ended.stdout
    assert "secret-key" not in ended.stdout + ended.stderr


@pytest.mark.parametrize("processes", [1, 2])
def test_ctrl_c_gives_a_clean_end_with_the_verdict(wide: str, processes: int) -> None:
    several = two_processes() if processes == 2 else ()
    with (
        little_gateway() as gateway,
        started("--host", gateway.base_url, "--thresholds", wide, *ENDLESS, *several) as process,
    ):
        gateway.wait_for(lambda: gateway.registrations >= 6 and len(gateway.pushed) > 50)
        # As a terminal does it: to every process of the group.
        os.killpg(process.pid, signal.SIGINT)
        ended = outcome(process)
    assert (ended.code, ended.failed()) == (0, set()), ended.stdout + ended.stderr
    assert f"PASSED: all {ALL} thresholds" in ended.stdout
    assert "Traceback" not in ended.stderr


def test_a_shape_is_applied_only_when_asked_for(wide: str) -> None:
    with little_gateway() as gateway:
        # Up for three seconds, and held for as long: a second and a half may be lost of either.
        ended = run("--host", gateway.base_url, "--thresholds", wide, *SHORT, "-t", "6s", "--shape", "ramp")
    assert (ended.code, ended.failed()) == (0, set()), ended.stdout
    stages = [int(users) for users in re.findall(r"Shape test updating to (\d+) users", ended.stderr)]
    assert stages[-1] == 6
    assert stages == sorted(stages)
    assert len(stages) > 1


def test_locust_finds_one_locustfile_and_no_shape() -> None:
    files = [path.name for path in (ROOT / "loadtest").rglob("*.py") if not path.name.startswith("_")]
    assert files == ["locustfile.py"]
    ended = run("--list")
    assert ended.stdout.split()[2:5] == ["CClient", "Churner", "SlowReader"]
    with little_gateway() as gateway:
        ended = run("--host", gateway.base_url, "-t", "1s", "-u", "2", "--tags", "client", "slow", "--no-observer")
    assert "Shape" not in ended.stderr
    assert '{"CClient": 1, "SlowReader": 1} (2 total users)' in ended.stderr


def test_the_options_are_explained() -> None:
    ended = run("--help-all")
    assert ended.code == 0
    for option in (
        "--thresholds",
        "--heartbeat-interval",
        "--push-rate",
        "--broadcast-rate",
        "--api-key",
        "--shape",
        "--users",
    ):
        assert option in ended.stdout


def test_a_worker_that_dies_fails_the_test_whatever_the_others_measured(tmp_path: Path) -> None:
    path = thresholds(tmp_path, "[steps.discover]\nmax_failure_ratio = 0\n")
    with (
        little_gateway() as gateway,
        started(
            *("--host", gateway.base_url, "--thresholds", str(path), *SHORT, "--settle-time", "0"), *two_processes()
        ) as process,
    ):
        gateway.wait_for(lambda: gateway.registrations == 6)
        workers = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text(encoding="ascii").split()
        os.kill(int(workers[0]), signal.SIGKILL)
        ended = outcome(process)
    # It may have died before all users were there.
    failed = ended.failed() - {"the number of users held"}
    assert (ended.code, failed) == (3, {"worker processes missing at the end"}), ended.stdout + ended.stderr


def test_trio_stays_out_of_gevents_process() -> None:
    program = "import loadtest.locustfile, sys; sys.exit('trio' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)
