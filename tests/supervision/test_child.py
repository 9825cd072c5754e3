"""One process as the supervisor sees it: what it says of itself, and how it ends."""

import sys
from pathlib import Path

import pytest
import trio

from service.supervision.child import Child

PROGRAM = """#!{python}
import json, os, sys
place = json.loads(sys.argv[-1])
assert sys.argv[1:5] == ["-m", "service", "serve", "--port"], sys.argv
def say(text):
    os.write(place["link"], text.encode() + b"\\n")
{does}
"""


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """In place of the interpreter: a program that does what the test says."""
    path = tmp_path / "program"
    monkeypatch.setattr(sys, "executable", str(path))
    return path


def does(program: Path, text: str, python: str = sys.executable) -> None:
    program.write_text(PROGRAM.format(python=f"{python} -IS", does=text))
    program.chmod(0o755)


async def watch(child: Child) -> list[Child]:
    ended: list[Child] = []
    with trio.fail_after(60):
        await child.watch(ended.append)
    return ended


async def test_one_that_starts_is_told_to_go_and_ends(program: Path) -> None:
    text = "assert os.environ['REDIS_URL'] == 'redis://a'\nsay('started')\nsay('ready')\n"
    does(program, text + "assert os.read(place['link'], 100) == b'drain\\n'\nsys.exit(3)")
    child = Child("n1", ["--port", "0"], {}, "redis://a")
    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def drive() -> None:
            with trio.fail_after(60):
                await child.started.wait()
                await child.settled.wait()
                assert child.ready
                assert not child.dismissed
                await child.tell("drain")

        assert await watch(child) == [child]
    assert (child.code, child.dismissed, child.failure, child.ended.is_set()) == (3, True, "", True)
    await child.tell("stop")  # it has gone
    child.kill()


async def test_one_that_cannot_start_says_why(program: Path) -> None:
    does(program, "say('failed port 1 is taken')\nsys.exit(1)")
    child = Child("n1", ["--port", "0"], {}, None)
    await watch(child)
    assert (child.failure, child.code, child.ready, child.started.is_set()) == ("port 1 is taken", 1, False, False)
    assert child.settled.is_set(), "nobody waits for it any more"


async def test_one_that_is_killed_has_ended(program: Path) -> None:
    does(program, "say('started')\nos.read(place['link'], 100)")
    child = Child("n1", ["--port", "0"], {}, None)
    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def kill() -> None:
            await child.started.wait()
            child.kill()

        await watch(child)
    assert child.code == -9


async def test_one_that_is_no_program_leaves_nothing_behind(program: Path) -> None:
    with pytest.raises(OSError, match="program"):
        Child("n1", ["--port", "0"], {}, None)
