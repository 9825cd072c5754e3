"""A gateway that was forked is what an executed one is, and ends when whoever started it does. Where it could not be
the same, it is executed."""

import json
import os
import select
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.forked_gateways import SCRIPT, Forked, is_same, start
from tests.gateways import ROOT, clean_environment, free_ports, gateway
from tests.start_facts import FILE, REFUSAL

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere every gateway is executed")
SERVE = [str(SCRIPT), "serve"]
USUAL = {"HOST": "127.0.0.1", "PORT": 0, "WEBSOCKET_PORT": "same", "WORKER_PORT": "off", "ENVIRONMENT": "development"}
ONLY_FORKED = {"tests", "tests.forked_gateways", "tests.forking", "runpy"}

DRAWS = "trio/_core/_run.py: random.Random"
"""In what order tasks run; this is drawn anew after a fork."""

# What imports draw or look at once is the same in all that are forked afterwards.
ONCE = """
import os, random, sys, sysconfig, time

found = set()
library = sysconfig.get_path("stdlib")

def watched(name, function):
    def watching(*arguments):
        caller = sys._getframe(1).f_code.co_filename
        if caller.startswith("/") and ("site-packages" in caller or not caller.startswith(library)):
            found.add(f"{caller.rpartition('site-packages/')[2].removeprefix(sys.argv[1])}: {name}")
        return function(*arguments)
    return watching

for module, names in {
    os: ("urandom", "getpid", "getppid", "getcwd"),
    random: ("random", "randrange", "randint"),
    time: ("time", "time_ns", "monotonic", "monotonic_ns", "perf_counter"),
}.items():
    for name in names:
        setattr(module, name, watched(f"{module.__name__}.{name}", getattr(module, name)))

class Watched(random.Random):
    __init__ = watched("random.Random", random.Random.__init__)

random.Random = Watched
if sys.argv[2:]:
    exec(compile(sys.argv[2], sys.argv[1] + "service/sample.py", "exec"))
from tests.forked_gateways import import_gateway
looked_up = import_gateway()
print(*sorted(found | {name for name in looked_up if name.startswith(("PORT", "REDIS", "SERVICE"))}), sep="\\n")
"""


def started(folder: Path, *, forked: bool, stderr: int | None = None, **settings: object) -> "tuple[Any, Path]":
    """One that was started in a folder that is made here, and its log. Its environment lacks something that others
    have."""
    folder.mkdir(exist_ok=True)
    log = folder / "log"
    environment = clean_environment(**{**USUAL, **settings})
    del environment["PATH"]
    with log.open("ab") as output:
        process = start(
            SERVE,
            cwd=folder,
            env=environment,
            stdout=output,
            stderr=stderr,
            forked=forked,
        )
    return process, log


def facts(folder: Path, *, forked: bool) -> dict[str, Any]:
    process, log = started(folder, forked=forked, PORTICO_EXTENSIONS="tests.start_facts", MADE_UP="é")
    assert isinstance(process, Forked if forked else subprocess.Popen)
    assert process.wait(60) == process.returncode == process.poll() == 2
    assert REFUSAL in log.read_text()
    found: dict[str, Any] = json.loads((folder / FILE).read_text())
    return found


@LINUX
def test_it_is_what_an_executed_one_is(tmp_path: Path) -> None:
    it, other = facts(tmp_path / "forked", forked=True), facts(tmp_path / "executed", forked=False)
    assert (it.pop("folder"), other.pop("folder")) == (str(tmp_path / "forked"), str(tmp_path / "executed"))
    again = facts(tmp_path / "again", forked=True)
    assert not {*it.pop("drawn")} & {*other.pop("drawn"), *again["drawn"]}
    modules, others = set(it.pop("modules")), set(other.pop("modules"))
    assert others - modules == set()
    assert modules - others <= ONLY_FORKED
    assert it == other
    assert it["environment"]["MADE_UP"] == "é"
    assert it["leads its session"]
    assert it["descriptors"][:3] == ["-rw-r--r--", "-rw-r--r--", "crw-rw-rw-"]


@LINUX
@pytest.mark.parametrize("ignored", [signal.SIG_IGN, signal.default_int_handler])
def test_it_ignores_what_its_starter_ignores_at_that_moment(tmp_path: Path, ignored: signal.Handlers) -> None:
    facts(tmp_path / "before", forked=True)  # whatever the process that forks was started with
    usual = signal.signal(signal.SIGINT, ignored)
    try:
        it, other = facts(tmp_path / "forked", forked=True), facts(tmp_path / "executed", forked=False)
    finally:
        signal.signal(signal.SIGINT, usual)
    assert (it["handlers"], it["signals"]) == (other["handlers"], other["signals"])


@LINUX
def test_its_standard_error_is_where_it_was_asked_for(tmp_path: Path) -> None:
    with (tmp_path / "apart").open("wb") as apart:
        process, log = started(tmp_path, forked=True, stderr=apart.fileno(), PORT="none")
    assert isinstance(process, Forked)
    assert process.wait(60) == 2
    assert log.read_text() == ""
    assert "PORT" in (tmp_path / "apart").read_text()


@LINUX
def test_signals_and_codes_are_as_those_of_any_process(tmp_path: Path) -> None:
    with gateway(tmp_path, exit_code=None) as running:
        process = running.process
        assert isinstance(process, Forked)
        assert process.poll() is None
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.01)
        process.kill()
        assert process.wait() == process.poll() == -signal.SIGKILL
        process.terminate()  # nobody is there any more


@pytest.mark.parametrize("forked", [True, False])
def test_one_that_does_not_come_up_shows_its_log(tmp_path: Path, forked: bool) -> None:
    settings = {"PORTICO_MAX_MESSAGE_SIZE": "many"}
    with (
        pytest.raises(RuntimeError, match="did not come up") as failed,
        gateway(tmp_path, settings=settings, forked=forked),
    ):
        pass
    assert "PORTICO_MAX_MESSAGE_SIZE" in "".join(failed.value.__notes__)


@LINUX
@pytest.mark.parametrize("name", ["PYTHONWARNINGS", "WEBSOCKETS_MAX_LOG_SIZE"])
def test_what_was_decided_before_the_fork_has_it_executed(tmp_path: Path, name: str) -> None:
    settings: dict[str, Any] = {name: "1000", "PORT": "none"}
    process, _ = started(tmp_path, forked=True, **settings)
    assert isinstance(process, subprocess.Popen)
    assert process.wait(60) == 2


@pytest.mark.parametrize(
    ("known", "wanted", "same"),
    [
        ({}, {}, True),
        ({"A": "1"}, {"A": "2", "B": "1"}, True),
        ({"A": "1"}, {}, True),
        ({"SEEN": "1"}, {"SEEN": "1"}, True),
        ({"SEEN": "1"}, {"SEEN": "2"}, False),
        ({"SEEN": "1"}, {}, False),
        ({}, {"SEEN": "1"}, False),
        ({}, {"PYTHONHASHSEED": "1"}, False),
        ({}, {"LD_PRELOAD": "clock.so"}, False),
        ({"LANG": "C"}, {"LANG": "C.UTF-8"}, False),
        ({"TZ": "UTC"}, {"TZ": "CET"}, False),
        ({"PYTHONPATH": "/a"}, {"PYTHONPATH": "/a"}, True),
    ],
)
def test_which_environments_are_the_same(known: dict[str, str], wanted: dict[str, str], same: bool) -> None:
    assert is_same(known, wanted, {"SEEN"}) is same


@LINUX
def test_it_ends_with_the_process_that_started_it(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from tests.gateways import gateway\n"
        "with gateway(Path(sys.argv[1])) as running: print(running.process.pid, flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as starter:
        assert starter.stdout is not None
        it = os.pidfd_open(int(starter.stdout.readline()))
        starter.kill()
    assert select.select([it], [], [], 60)[0]
    os.close(it)


def test_nothing_is_drawn_or_looked_up_while_the_gateway_is_imported() -> None:
    command = [sys.executable, "-c", ONCE, f"{ROOT}/"]

    def found(*sample: str) -> list[str]:
        done = subprocess.run([*command, *sample], cwd=ROOT, env=clean_environment(), check=True, capture_output=True)
        return done.stdout.decode().splitlines()

    assert found() == [DRAWS]
    sample = "import os, random; salt = os.urandom(16); chance = random.Random()"
    assert found(sample) == ["service/sample.py: os.urandom", "service/sample.py: random.Random", DRAWS]


@LINUX
def test_many_at_once_are_told_apart(tmp_path: Path) -> None:
    ports = free_ports(4)
    bad = [started(tmp_path / str(port), forked=True, PORTICO_EXTENSIONS=f"none_{port}") for port in ports]
    assert len({process.pid for process, _ in bad}) == len(ports)
    for port, (process, log) in reversed(list(zip(ports, bad, strict=True))):
        assert process.wait(60) == 2
        assert f"none_{port}" in log.read_text()
