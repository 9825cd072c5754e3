"""The import law can fail: in a copy of the tree, each wall is broken by one import, and the check names the contract.

A contract without a broken import here fails `test_every_contract_is_broken_here`: a check that nobody has seen fail
may check nothing. Until that was tried, the law let trio into the core through two hops.
"""

import ast
import re
import select
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("portico", "service", "compat", "loadtest")
LINT = Path(sys.executable).with_name("lint-imports")
CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]

LAYERS = "the gateway's layers"
SDK_LAYERS = "the layers of what other programs import"
NO_IO = "wire and core do no I/O"
SDK = "what other programs import knows nothing of the gateway"
PROGRAMS = "the gateway doesn't know its tests' programs"
SDK_USERS = "of the SDK, only the command line knows"
REDIS = "the Redis client knows nothing of gateways"
REDIS_USERS = "only the backplane speaks to Redis"
SETTINGS = "only what makes and starts a node sees the settings"
WIRE_DIALECTS = "the dialects don't know one another on the wire"
HANDLERS = "the dialects' handlers don't know one another"
COMPAT = "compat shares no code with what it tests"
LOADTEST = "the load harness uses the wire only"
CIRCLES = "no circles"

BREAKS: list[tuple[str, dict[str, str]]] = [
    # An arrow up, from each layer to the next one.
    (LAYERS, {"service/cli/check": "import service.__main__"}),
    (LAYERS, {"service/serving": "import service.cli"}),
    (LAYERS, {"service/serving": "import service.asgi"}),
    (LAYERS, {"service/app": "import service.serving"}),
    (LAYERS, {"service/assembly": "import service.app"}),
    (LAYERS, {"service/supervision/child": "import service.assembly"}),
    (LAYERS, {"service/transports/native": "import service.drain"}),
    (LAYERS, {"service/http/table": "import service.supervision.link"}),
    (LAYERS, {"service/backplane/deployment": "import service.extensions"}),
    (LAYERS, {"service/background": "import service.observe"}),
    (LAYERS, {"service/core/connections/hub": "import service.background"}),
    (LAYERS, {"service/core/connections/hub": "import service.drain"}),
    (LAYERS, {"service/core/gateway": "import service.app"}),
    (LAYERS, {"service/core/gateway": "import service.collector"}),
    (LAYERS, {"service/core/push/delivery": "import service.backplane.memory"}),
    (LAYERS, {"service/redis/commands": "import service.core.ports"}),
    # Siblings.
    (LAYERS, {"service/transports/native": "import service.backplane.memory"}),
    (LAYERS, {"service/transports/native": "import service.http.table"}),
    (LAYERS, {"service/backplane/memory": "import service.transports.native"}),
    (LAYERS, {"service/backplane/memory": "import service.http.table"}),
    (LAYERS, {"service/http/table": "import service.transports.native"}),
    (LAYERS, {"service/http/table": "import service.backplane.memory"}),
    (LAYERS, {"service/http/table": "import service.observe"}),
    (LAYERS, {"service/cli/check": "import service.asgi"}),
    # In two steps, the second of which is fine by itself.
    (LAYERS, {"service/core/ports": "import service.backoff", "service/backoff": "import service.background"}),
    # A module that belongs to no layer.
    (LAYERS, {"service/shortcut": ""}),
    (SDK_LAYERS, {"portico/shortcut": ""}),
    (SDK_LAYERS, {"portico/wire/codes": "import portico.client.backoff"}),
    *[
        (NO_IO, {file: f"import {module}"})
        for file in ("portico/wire/frame", "service/core/gateway")
        for module in ("trio", "socket", "quart", "quart_trio", "hiredis", "coredis", "websockets", "asyncio", "time")
    ],
    # The core through the wire, and through a module of its own that is only for type checkers.
    (NO_IO, {"portico/wire/shortcut": "import trio", "service/core/ports": "import portico.wire.shortcut"}),
    (NO_IO, {"service/core/ports": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import trio"}),
    (NO_IO, {"service/core/ports": "def later() -> None:\n    import trio"}),
    (SDK, {"portico/client/link": "import service.backoff"}),
    (SDK, {"portico/wire/frame": "import service"}),
    (SDK, {"portico/client/link": "import compat.address"}),
    (PROGRAMS, {"service/cli/check": "import compat.address"}),
    (PROGRAMS, {"service/http/table": "import loadtest._tally"}),
    (SDK_USERS, {"service/core/gateway": "import portico.client.backoff"}),
    (SDK_USERS, {"service/supervision/child": "from portico.client import backoff"}),
    (REDIS, {"service/redis/commands": "import portico.wire.frame"}),
    (REDIS_USERS, {"service/app": "from service.redis.urls import read_url"}),
    (REDIS_USERS, {"service/http/table": "import service.redis.commands"}),
    (SETTINGS, {"service/http/table": "from service.settings import Settings"}),
    (SETTINGS, {"service/core/gateway": "from service.settings.model import Settings"}),
    (SETTINGS, {"service/supervision/supervisor": "from service import settings"}),
    (WIRE_DIALECTS, {"portico/wire/dialects/user": "from . import requester"}),
    (HANDLERS, {"service/core/dialects/c_client": "from .envelope import EnvelopeHandler"}),
    (COMPAT, {"compat/expect": "import service.core.ports"}),
    (COMPAT, {"compat/expect": "from portico.wire import codes"}),
    (COMPAT, {"compat/expect": "import loadtest._tally"}),
    (LOADTEST, {"loadtest/_link": "import portico.client.link"}),
    (LOADTEST, {"loadtest/_link": "import service.core.ports"}),
    (LOADTEST, {"loadtest/_link": "import trio"}),
    (CIRCLES, {"service/core/ports": "from . import gateway"}),
    (CIRCLES, {"service/core/connections/hub": "from ..push import delivery"}),
]


FORKS = """
import os, sys
from importlinter.cli import lint_imports_command

for said in sys.stdin:
    if not (linting := os.fork()):
        output = os.open(said.strip(), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(output, 1)
        os.dup2(output, 2)
        sys.argv = ["lint-imports"]
        lint_imports_command()
    print(os.waitstatus_to_exitcode(os.waitpid(linting, 0)[1]), flush=True)
"""
"""The command, forked from a process that has imported it: importing is most of what one look takes."""
Lint = Callable[[], tuple[int, str]]


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the packages and of their law, with the linter's cache warm: the command itself was content with it."""
    copy = tmp_path_factory.mktemp("tree")
    for package in PACKAGES:
        shutil.copytree(ROOT / package, copy / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", copy)
    done = subprocess.run([LINT], cwd=copy, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return copy


@pytest.fixture(scope="module")
def lint(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lint]:
    """What `lint-imports` says of the tree, which comes before the installed packages: the exit code, and its words."""
    said = tmp_path_factory.mktemp("said") / "all"
    command = [sys.executable, "-c", FORKS]
    with subprocess.Popen(command, cwd=tree, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        orders, codes = process.stdin, process.stdout
        assert orders is not None
        assert codes is not None

        def look() -> tuple[int, str]:
            print(said, file=orders, flush=True)
            assert select.select([codes], [], [], 120)[0], "it says nothing"
            return int(codes.readline()), said.read_text()

        try:
            assert look()[0] == 0
            yield look
        finally:
            process.kill()


def broken(said: str) -> set[str]:
    """The contracts that it names as broken."""
    return set(re.findall(r"^(.*) BROKEN(?: .*)?$", said, re.MULTILINE))


@pytest.mark.parametrize(
    ("contract", "files"),
    [
        pytest.param(contract, files, id=f"{contract}: {', '.join(files)}: {next(iter(files.values())).split()[-1:]}")
        for contract, files in BREAKS
    ],
)
def test_an_import_through_a_wall_is_seen(tree: Path, lint: Lint, contract: str, files: dict[str, str]) -> None:
    before = {tree / f"{name}.py": None for name in files} | {
        path: path.read_bytes() for name in files if (path := tree / f"{name}.py").exists()
    }
    try:
        for (path, content), line in zip(before.items(), files.values(), strict=True):
            path.write_bytes((content or b"") + f"\n\n{line}\n".encode())
        code, said = lint()
    finally:
        for path, content in before.items():
            path.unlink() if content is None else path.write_bytes(content)
    assert code == 1, said
    assert contract in broken(said), said


def test_every_contract_is_broken_here() -> None:
    assert {contract["name"] for contract in CONTRACTS} == {contract for contract, _ in BREAKS}


def test_the_law_looks_at_all_that_is_installed() -> None:
    law = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]
    found = law["setuptools"]["packages"]["find"]["include"]
    assert set(law["importlinter"]["root_packages"]) == {name.rstrip("*") for name in found} == set(PACKAGES)


def test_no_contract_makes_an_exception() -> None:
    for contract in CONTRACTS:
        assert not {"allow_indirect_imports", "ignore_imports"} & contract.keys(), contract["name"]


# What the linter can't see: `import portico.wire.frame` runs `portico/__init__.py` too, and a library may import more
# than its name says.

FOREIGN = {
    "trio", "anyio", "quart", "quart_trio", "hypercorn", "coredis", "hiredis", "websockets", "wsproto", "h11", "httpx",
    "trio_websocket", "structlog", "prometheus_client", "pydantic", "pydantic_settings", "click", "asyncio",
}  # fmt: skip


def loaded_by(package: str, tree: Path) -> set[str]:
    """Of what importing every module of a package loads: what does I/O, and rooms that it must not know."""
    modules = [
        ".".join(path.relative_to(tree).with_suffix("").parts).removesuffix(".__init__")
        for path in sorted((tree / package).rglob("*.py"))
    ]
    assert len(modules) > 10
    program = f"import sys, {', '.join(modules)}\nprint(list(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], cwd=tree, capture_output=True, text=True, check=True)
    loaded: list[str] = ast.literal_eval(done.stdout)
    assert modules[-1] in loaded
    return {
        name
        for name in loaded
        if name in FOREIGN or re.match(r"portico\.(?!wire\b|version\b)|service\.(?!core\b)|(compat|loadtest)\b", name)
    }


@pytest.mark.parametrize("package", ["portico/wire", "service/core"])
def test_importing_the_core_loads_nothing_that_does_io(package: str) -> None:
    assert loaded_by(package, ROOT) == set()


@pytest.mark.parametrize("imported", ["trio", "portico.client.errors"])
def test_an_import_behind_the_linters_back_is_seen(tree: Path, lint: Lint, imported: str) -> None:
    (tree / "portico" / "__init__.py").write_text(f"import importlib\nimportlib.import_module({imported!r})\n")
    try:
        code, said = lint()
        assert code == 0, f"the linter sees it itself: {said}"
        assert imported in loaded_by("service/core", tree)
    finally:
        shutil.copy(ROOT / "portico" / "__init__.py", tree / "portico" / "__init__.py")


# Nor can it see what needs no import of its own, or a part of a module that is harmless otherwise.

OF_OS = {"urandom", "register_at_fork"}
"""What the core uses of `os`: bytes of chance, and to be told of a fork."""


def io_in(source: str) -> list[str]:
    """The expressions that open a file, speak to a terminal, ask the system, or read a clock that nobody handed in."""
    found: list[str] = []
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Call(func=ast.Name(id="open" | "print" | "input" | "breakpoint" as name)):
                found.append(name)
            case ast.Attribute(attr="now" | "utcnow" | "today", value=ast.Name(id="datetime" | "date" | "dt")):
                found.append(ast.unparse(node))
            case ast.Attribute(attr="stdin" | "stdout" | "stderr", value=ast.Name(id="sys")):
                found.append(ast.unparse(node))
            case ast.Attribute(attr=name, value=ast.Name(id="os")) if name not in OF_OS:
                found.append(ast.unparse(node))
            case ast.ImportFrom(module="os" | "sys", names=names):
                found += [name.name for name in names if name.name not in OF_OS]
    return found


@pytest.mark.parametrize(
    ("line", "seen"),
    [
        ("open('a')", ["open"]),
        ("print(1)", ["print"]),
        ("at = datetime.now(UTC)", ["datetime.now"]),
        ("sys.stderr.write('')", ["sys.stderr"]),
        ("os.stat('a')", ["os.stat"]),
        ("from os import getpid, urandom", ["getpid"]),
        ("os.urandom(8)", []),
        ("at = self._now()", []),
        ("self.open(1)", []),
    ],
)
def test_what_does_io_without_an_import_is_seen(line: str, seen: list[str]) -> None:
    assert io_in(line) == seen


def test_neither_does_the_core_io_without_an_import() -> None:
    found = {
        str(path.relative_to(ROOT)): calls
        for package in ("portico/wire", "service/core")
        for path in (ROOT / package).rglob("*.py")
        if (calls := io_in(path.read_text()))
    }
    assert found == {}
