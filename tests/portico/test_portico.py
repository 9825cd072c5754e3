"""What `import portico` gives, and what it doesn't load."""

import ast
import asyncio
import builtins
import inspect
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

import portico
from tests.gateways import ROOT, clean_environment

HEAVY = ("trio", "websockets", "httpx", "trio_websocket", "anyio")


def loaded(statement: str, folder: Path) -> set[str]:
    """The top-level modules that a fresh Python has loaded after `statement`."""
    program = f"{statement}\nimport sys\nprint(*sys.modules)"
    command = [sys.executable, "-c", program]
    ended = subprocess.run(
        command, cwd=folder, env=clean_environment(), capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode == 0, ended.stderr
    return {name.partition(".")[0] for name in ended.stdout.split()}


@pytest.mark.parametrize(
    "statement",
    [
        "import portico",
        "import portico; portico.__version__; portico.CloseCode; portico.Identity; portico.ClientError; dir(portico)",
        *(
            f"import {'.'.join(path.relative_to(ROOT).with_suffix('').parts)}"
            for path in sorted([*ROOT.glob("service/core/**/*.py"), *ROOT.glob("portico/wire/**/*.py")])
            if path.name in ("gateway.py", "session.py", "backplane.py", "dispatcher.py", "frame.py", "c_client.py")
        ),
    ],
)
def test_the_gateway_s_core_loads_nothing_of_the_sdk(statement: str, tmp_path: Path) -> None:
    assert loaded(statement, tmp_path).isdisjoint(HEAVY)


def test_the_check_would_see_it(tmp_path: Path) -> None:
    assert {"trio", "websockets", "httpx"} <= loaded("from portico import Client", tmp_path)


def test_every_exported_name_can_be_imported_from_here(tmp_path: Path) -> None:
    names = ", ".join(portico.__all__)
    assert "portico" in loaded(f"from portico import {names}", tmp_path)
    assert "portico" in loaded("from portico import *; Worker; NoWorkers; current_call", tmp_path)
    for name in portico.__all__:
        assert getattr(portico, name) is not None, name
        assert name in dir(portico)


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="Clientt"):
        getattr(portico, "Clientt")  # noqa: B009  (a type checker would refuse the other way)
    with pytest.raises(ImportError):
        from portico import Clientt  # type: ignore[attr-defined]  # noqa: F401  (misuse)


def test_every_error_and_event_of_the_sdk_is_exported() -> None:
    from portico.client import errors, events

    mine = {
        name
        for module in (errors, events)
        for name, value in vars(module).items()
        if isinstance(value, type) and value.__module__ == module.__name__
    }
    assert mine <= set(portico.__all__), mine - set(portico.__all__)
    assert all(
        issubclass(getattr(portico, name), portico.ClientError)
        for name in mine
        if issubclass(getattr(portico, name), Exception)
    )


@pytest.mark.parametrize("cls", [portico.Client, portico.Worker, portico.Requester])
def test_what_a_method_says_it_raises_is_exported(cls: type) -> None:
    docs = [cls.__doc__ or "", *(member.__doc__ or "" for member in vars(cls).values() if callable(member))]
    named = {
        name for doc in docs for sentence in re.findall(r"\bRaises ([^.]*)\.", doc) for name in ERROR.findall(sentence)
    }
    assert named
    assert not {name for name in named if name not in portico.__all__ and not hasattr(builtins, name)}


ERROR = re.compile(r"\b(?:[A-Z][a-z]+){2,}\b")


def test_the_type_checker_and_the_loader_see_the_same_names() -> None:
    tree = ast.parse((ROOT / "portico" / "__init__.py").read_text(encoding="utf-8"))
    guarded = next(node for node in tree.body if isinstance(node, ast.If))
    typed = {
        alias.name: node.module for node in guarded.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    assert {*typed, "__version__"} == set(portico.__all__)
    for name, module in typed.items():
        assert getattr(portico, name) is getattr(sys.modules[str(module)], name), name


def test_the_version_is_the_package_s() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert project["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "portico.version.VERSION"}
    assert re.fullmatch(r"\d+\.\d+\.\d+", portico.__version__)


def test_all_three_take_their_address_in_the_same_way() -> None:
    taken = []
    for cls in (portico.Client, portico.Worker, portico.Requester):
        parameters = inspect.signature(cls).parameters
        taken.append([(parameters[name].kind, parameters[name].default) for name in ("base_url", "url")])
        assert next(iter(parameters)) == "base_url"
    assert taken[0] == taken[1] == taken[2]


@pytest.mark.parametrize(
    "program",
    [
        lambda: portico.Worker("http://localhost:1", commands={"echo": print}).run(),
        lambda: portico.Client("http://localhost:1").__aenter__(),
        lambda: portico.Requester("http://localhost:1").__aenter__(),
    ],
)
def test_under_another_loop_it_says_what_it_runs_on(program: Callable[[], Coroutine[Any, Any, object]]) -> None:
    with pytest.raises(portico.NotRunning, match="run on trio"):
        asyncio.run(program())
