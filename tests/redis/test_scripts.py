"""Scripts: each file is in the package, and runs whatever Redis has forgotten."""

import hashlib
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from service.backplane.redis import scripts
from service.redis.faults import Refusal
from service.redis.scripts import Script

from ..backplane.redis.links import link
from ..backplane.redis_server import RedisServer, redis_server

FOLDER = Path(scripts.__file__).parent
SCRIPTS = [value for value in vars(scripts).values() if isinstance(value, Script)]


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    with redis_server(tmp_path / "redis") as server:
        yield server


def test_each_file_is_a_script_and_there_is_no_lua_elsewhere() -> None:
    files = {hashlib.sha1(path.read_bytes()).hexdigest(): path.name for path in FOLDER.glob("*.lua")}
    assert {script.digest for script in SCRIPTS} == set(files)
    for path in (*FOLDER.glob("*.py"), *FOLDER.parents[1].glob("redis/*.py")):
        assert "redis.call" not in path.read_text(), f"{path.name} has Lua in it"


def test_a_wheel_has_each_file(tmp_path: Path) -> None:
    top = FOLDER.parents[2]
    tree = tmp_path / "tree"
    tree.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        if (top / name).exists():
            shutil.copy(top / name, tree)
    for name in ("service", "portico"):
        shutil.copytree(top / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
    build = "import sys, setuptools.build_meta as backend; print(backend.build_wheel(sys.argv[1]))"
    subprocess.run([sys.executable, "-c", build, str(tmp_path)], cwd=tree, check=True, capture_output=True)
    [wheel] = tmp_path.glob("*.whl")
    inside = zipfile.ZipFile(wheel).namelist()
    for path in FOLDER.glob("*.lua"):
        assert str(path.relative_to(top)) in inside


def test_each_file_opens_with_what_it_is_for() -> None:
    for path in FOLDER.glob("*.lua"):
        assert path.read_text().startswith("-- "), path.name


def test_redis_can_compile_each(redis: RedisServer) -> None:
    for script in SCRIPTS:
        assert redis.command("SCRIPT", "LOAD", script.text.decode()).strip().endswith(script.digest.encode())


async def test_one_that_redis_does_not_know_is_sent_whole(redis: RedisServer) -> None:
    script = scripts.REGISTRY_POP
    async with trio.open_nursery() as nursery:
        commands = link(redis.url)
        await nursery.start(commands.run)
        for _ in range(2):
            redis.command("SCRIPT", "FLUSH")
            assert await script.ask(commands.ask, ("none",), (1,)) == []
            redis.command("SCRIPT", "FLUSH")
            answers: list[object] = []
            script.send(commands.send, ("none",), (1,), answers.append)
            await commands.ask("PING")
            await commands.ask("PING")
            assert answers == [[]]
        redis.command("SET", "none", "of this kind")
        with pytest.raises(Refusal, match="WRONGTYPE"):
            await script.ask(commands.ask, ("none",), (1,))
        nursery.cancel_scope.cancel()
