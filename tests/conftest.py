"""What all tests share: hypothesis draws the same examples every time, however loaded the machine is; a pause of the
machine isn't counted where both sides of a test are in its process (see `steady_clock`); and where several processes
share the tests (`make test`), the files that take longest come first, and the others among them.

A file goes to one process as a whole. One of a minute that is begun last would keep everybody waiting for that minute.
Where Python is told to keep no bytecode (containers often say so), what the tests start is compiled once, before them:
each of the hundreds of gateways would compile the whole project anew, a third of what its start costs. What tests write
themselves goes on being compiled each time, so nothing stale is ever run.

Likewise what pytest makes of the test files, whose assertions it rewrites, is made once and kept, before the processes
that share them: each would do it for all files, a minute of processor time in all.
"""

import compileall
import itertools
import os
import sys
from collections.abc import Generator
from contextlib import suppress
from inspect import iscoroutinefunction
from pathlib import Path
from typing import Final

import pytest
from _pytest.assertion import rewrite
from hypothesis import HealthCheck, settings

from service.collector import without_collections
from tests import steady_clock

settings.register_profile("same", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
# For a search of one's own: HYPOTHESIS_PROFILE=search pytest tests/wire
settings.register_profile("search", deadline=None, max_examples=5000, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))

HERE: Final = Path(__file__).parent
ROOT: Final = HERE.parent
REWRITTEN: Final = ("test_*.py", "conftest.py", "contract*.py")
FIRST: Final = 6
"""Of the processes of `make test` one fewer: so many begin with the longest files."""

LONGEST: Final = (
    "compat/test_live.py",
    "loadtest/test_locust.py",
    "test_packaging.py",
    "split/test_outages.py",
    "loadtest/test_live.py",
    "browser/test_page.py",
    "compat/test_mutants.py",
    "portico/test_samples.py",
    "transports/test_asgi.py",
    "test_app.py",
    "bench/test_quick.py",
    "autobahn/test_autobahn.py",
    "compat/test_main.py",
    "supervision/test_several_processes.py",
    "bench/test_redis_quick.py",
    "split/test_failovers.py",
    "adversity/test_pressure.py",
    "test_tls.py",
    "browser/test_streaming.py",
    "split/test_troubles.py",
    "test_roles.py",
    "transports/test_native.py",
    "adversity/test_floods.py",
    "redis/test_cluster.py",
    "adversity/test_slow_and_dead.py",
    "backplane/redis/test_ingress.py",
    "adversity/test_drain.py",
    "backplane/redis/test_recovery.py",
    "backplane/redis/test_plane_adversity.py",
    "backplane/redis/test_membership.py",
    "test_import_law.py",
    "browser/test_page_tokens.py",
    "test_checks_can_fail.py",
    "browser/test_following.py",
    "compat/test_clients.py",
    "transports/test_contained.py",
    "redis/test_subscription.py",
    "adversity/test_log.py",
    "cli/test_check.py",
    "transports/test_tls_connection.py",
    "adversity/test_soak.py",
    "test_bad_input.py",
    "transports/test_hypercorn.py",
    "backplane/redis/test_gateways.py",
    "portico/client/test_cuts.py",
    "compat/test_modes.py",
    "split/test_demo.py",
    "redis/test_sentinel.py",
    "cli/console/test_beside.py",
    "split/test_compat.py",
    "core/dispatch/test_distribution.py",
    "cli/test_console.py",
    "portico/publisher/test_publishers.py",
    "http/test_contract.py",
    "split/test_chance.py",
    "cli/test_main.py",
    "compat/test_return.py",
    "own_app/test_start.py",
)
"""The files that take twelve seconds and more where the machine has other work too, the longest first, as
`pytest --durations` has them."""


STEADY: Final = frozenset({"chat", "cli", "http", "outgoing", "own_app", "portico", "tokens", "transports", "webhooks"})
"""The folders whose trio tests run by a clock that doesn't count how long the machine stood still: what they test is in
their own process, both sides of it."""


def pytest_configure(config: pytest.Config) -> None:
    """Once, before the processes that share the tests."""
    if hasattr(config, "workerinput"):
        return
    if sys.dont_write_bytecode:
        for name in ("portico", "service", "compat", "loadtest", "tests"):
            compileall.compile_dir(ROOT / name, quiet=2)
    if config.getoption("numprocesses", None) and config.args == config.getini("testpaths"):
        _rewrite(config, [file for pattern in REWRITTEN for file in HERE.rglob(pattern) if not _is_rewritten(file)])


def _kept(file: Path) -> Path:
    """Where pytest keeps what it made of a test file."""
    return file.parent / "__pycache__" / f"{file.stem}{rewrite.PYC_TAIL}"


def _is_rewritten(file: Path) -> bool:
    """Whether it has kept that of the file as it is now."""
    kept = _kept(file)
    return kept.exists() and kept.stat().st_mtime >= file.stat().st_mtime


def _rewrite(config: pytest.Config, files: list[Path]) -> None:
    """Make of these files what pytest makes of them, where it keeps it, a share on each core. What is wrong with one is
    no matter here: it is said by who runs its tests. Nor is it if another pytest does this in another way: then nothing
    is kept that it would take, and each process makes its own."""
    files.sort(key=lambda file: file.stat().st_size)
    cores = os.cpu_count() or 1
    sharing: list[int] = []
    for share in (files[number::cores] for number in range(cores)):
        if not (process := os.fork()):
            try:
                for file in share:
                    with suppress(Exception):
                        digest, code = rewrite._rewrite_test(file, config)
                        file.parent.joinpath("__pycache__").mkdir(exist_ok=True)
                        rewrite._write_pyc(config.stash[rewrite.assertstate_key], code, digest, _kept(file))
            finally:
                os._exit(0)
        sharing.append(process)
    for process in sharing:
        os.waitpid(process, 0)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Nearly all that is made now stays: to look through it for garbage, again and again, is two fifths of the work."""
    with without_collections():
        return (yield)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Longest files first, where processes share the tests, and the others among them. Within a file the order stays.

    The longest wait most of the time, for processes and sockets, and most of the others compute. All of one kind before
    all of the other, the machine would be half idle first and crowded then.
    """
    folders = [HERE / folder for folder in STEADY]
    steady = {path: any(map(path.is_relative_to, folders)) for path in {item.path for item in items}}
    for item in items:
        if steady[item.path] and iscoroutinefunction(getattr(item, "obj", None)):
            # Before the mark that pytest-trio puts on it.
            item.add_marker(pytest.mark.trio(run=steady_clock.run), append=False)
    if not hasattr(config, "workerinput"):
        return
    place = {HERE / name: number for number, name in enumerate(LONGEST)}
    longest = sorted({item.path for item in items if item.path in place}, key=place.__getitem__)
    others = list(dict.fromkeys(item.path for item in items if item.path not in place))
    order = dict(zip(_mixed(longest, others), itertools.count()))
    items.sort(key=lambda item: order[item.path])


def _mixed(longest: list[Path], others: list[Path]) -> list[Path]:
    """The first few of the longest, so that all processes but one have one; then the others evenly between the rest of
    them. A quarter of these stay for the end, where what is short leaves no process without work for long."""
    first, rest = longest[:FIRST], longest[FIRST:]
    among = len(others) * 3 // 4
    mixed = list(first)
    for number, file in enumerate(rest):
        mixed += [*others[number * among // len(rest) : (number + 1) * among // len(rest)], file]
    return mixed + others[among if rest else 0 :]


# Assertions in the transports' contract show what they compared, though its modules are no test modules.
pytest.register_assert_rewrite(
    *(f"tests.transports.contract_{part}" for part in ("messages", "ending", "crowd", "handshake"))
)
pytest.register_assert_rewrite("tests.backplane.contract")
