"""The tutorial, followed to the letter: its commands, its page, its worker, on a real gateway.

Blocks run as they stand, except that ports are replaced by free ones. In what a block is said to print, `…` stands for
anything. Comments in the page's source say what a block is: a file to save, what the page shows, what goes on.
"""

import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import httpx
import pytest

from tests.gateways import BIN, ROOT, Running, clean_environment, gateway

TUTORIAL = ROOT / "docs" / "tutorial.md"
NODE = shutil.which("node")
CHROMIUM = shutil.which("chromium")
LIMIT = 60.0
"""Seconds for anything to happen, however busy the machine is."""

_BLOCK = re.compile(r"(?:^<!-- tested: (?P<what>.*?) -->\n)?^```(?P<language>\w+)\n(?P<text>.*?)^```$", re.M | re.S)
_SCRIPT = re.compile(r"<script>(.*?)</script>", re.DOTALL)

# As much of a browser's document as the page uses.
DOCUMENT = """
const document = {
  getElementById: () => ({ append: (item) => console.log(item.textContent) }),
  createElement: () => ({}),
};
"""

pytestmark = pytest.mark.live


@dataclass(frozen=True)
class Block:
    """A code block, with what the comment before it says."""

    what: str
    language: str
    text: str


def blocks(running: Running) -> list[Block]:
    """The tutorial's, for the ports of this gateway."""
    ports = {"8000": running.base_url, "8766": running.websocket_url, "8765": running.worker_url}
    text = TUTORIAL.read_text().replace("localhost", "127.0.0.1").replace(".venv/bin/", f"{BIN}/")
    # Who follows it to the letter has the default ports, which the requester then need not be told.
    text = text.replace("/portico request ", f"/portico request --base-url {running.base_url} ")
    for port, url in ports.items():
        text = re.sub(rf"\b{port}\b", url.rpartition(":")[2], text)
    return [Block(found["what"] or "", found["language"], found["text"]) for found in _BLOCK.finditer(text)]


def is_as_shown(shown: str, said: str) -> bool:
    """Whether somewhere in `said` is what is `shown`."""
    pattern = ".*?".join(re.escape(part) for part in shown.strip().split("…"))
    return re.search(pattern, said, re.DOTALL) is not None


def wait_for(happened: Callable[[], bool], what: Callable[[], str]) -> None:
    """Wait, or fail with what there is instead."""
    give_up = time.monotonic() + LIMIT
    while not happened():
        if time.monotonic() > give_up:
            pytest.fail(what())
        time.sleep(0.05)


@contextmanager
def going_on(command: list[str], folder: Path, name: str) -> Iterator[Path]:
    """A program that runs while the block does, and the file with what it writes."""
    output = folder / f"{name}.out"
    with output.open("wb") as out:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=clean_environment(),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    try:
        yield output
    finally:
        process.kill()
        process.wait()


def node(script: Path) -> list[str]:
    """How to run a script in Node, whose WebSocket needed an option before version 22."""
    assert NODE is not None
    version = subprocess.run([NODE, "--version"], capture_output=True, text=True, check=True).stdout
    old = int(version.lstrip("v").partition(".")[0]) < 22
    return [NODE, *(["--experimental-websocket"] if old else []), str(script)]


def run_shell(command: str, folder: Path) -> str:
    """What a command prints; it has to succeed."""
    ended = subprocess.run(
        ["bash", "-c", command],
        cwd=folder,
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


class Follower:
    """Somebody who follows the tutorial."""

    def __init__(self, running: Running, folder: Path) -> None:
        self.running = running
        self.folder = folder
        self.printed = ""
        self.page = folder / "page.out"
        self.worker = folder / "worker.out"
        self.compared = 0

    def compare(self, shown: str) -> None:
        """What the last command printed is as shown."""
        assert is_as_shown(shown, self.printed), f"shown:\n{shown}\nprinted:\n{self.printed}"
        self.compared += 1

    def look(self, shown: str) -> None:
        """The page shows it, now or soon."""
        self._wait_until(self.page, "page", shown)

    def hear(self, shown: str) -> None:
        """The worker says it, now or soon."""
        self._wait_until(self.worker, "worker", shown)

    def _wait_until(self, output: Path, name: str, shown: str) -> None:
        wait_for(
            lambda: is_as_shown(shown, output.read_text()),
            lambda: f"the {name} should show:\n{shown}\nbut shows:\n{output.read_text()}",
        )
        self.compared += 1

    def worker_is_there(self) -> bool:
        answer = httpx.get(f"{self.running.base_url}/api/workers", trust_env=False).json()
        return bool(answer["workers"])


def test_every_block_does_what_it_is_said_to_do(tmp_path: Path) -> None:
    if NODE is None:
        pytest.skip("Node is not installed, and the tutorial's page runs in it")
    folder = tmp_path / "reader"
    folder.mkdir()
    with gateway(tmp_path, host="127.0.0.1") as running:
        steps = blocks(running)
        page = next(step for step in steps if step.what == "file page.html")
        worker = next(step for step in steps if step.what == "goes on")
        script = folder / "page.mjs"
        script.write_text(DOCUMENT + _SCRIPT.findall(page.text)[0])
        (folder / "counting_worker.py").write_text(
            next(step for step in steps if step.what == "file counting_worker.py").text
        )
        follower = Follower(running, folder)
        with going_on(node(script), folder, "page"):
            until_worker = steps.index(worker)
            follow(follower, steps[:until_worker])
            with going_on(worker.text.split(), folder, "worker") as said:
                wait_for(follower.worker_is_there, said.read_text)
                follow(follower, steps[until_worker + 1 :])
    assert follower.compared == sum(step.language == "text" for step in steps)


def follow(follower: Follower, steps: list[Block]) -> None:
    """Do what each block says, in order."""
    for step in steps:
        match step:
            case Block(what="the page shows"):
                follower.look(step.text)
            case Block(what="the worker says"):
                follower.hear(step.text)
            case Block(what="javascript"):
                script = follower.folder / "console.mjs"
                script.write_text(step.text)
                with going_on(node(script), follower.folder, "console") as said:
                    wait_for(partial(printed_a_line, said), said.read_text)
                    follower.printed = said.read_text()
            case Block(language="text"):
                follower.compare(step.text)
            case Block(language="sh", text="make run\n"):
                # It runs already, and says the same.
                follower.printed = follower.running.said()
            case Block(language="sh"):
                follower.printed = run_shell(step.text, follower.folder)
            case _:
                assert step.what.startswith("file "), step


def printed_a_line(said: Path) -> bool:
    return any(line.startswith("{") and line.endswith("\n") for line in said.read_text().splitlines(keepends=True))


@pytest.mark.browser
def test_the_page_in_a_browser(tmp_path: Path) -> None:
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed, and the tutorial's page is opened in it")
    from playwright.sync_api import sync_playwright

    with gateway(tmp_path) as running, sync_playwright() as playwright:
        page_file = tmp_path / "page.html"
        page_file.write_text(next(block.text for block in blocks(running) if block.what == "file page.html"))
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        try:
            page = browser.new_page()
            page.goto(page_file.as_uri())
            page.get_by_text("registration_success").wait_for(timeout=LIMIT * 1000)
            push = {"target": {"user_id": "ann"}, "type": "cart_updated", "data": {"items": 3}}
            answer = httpx.post(f"{running.base_url}/api/notifications", json=push, trust_env=False)
            assert answer.json()["queued"] == 1
            page.get_by_text('{"type":"cart_updated","items":3}', exact=True).wait_for(timeout=LIMIT * 1000)
        finally:
            browser.close()


@pytest.mark.parametrize(
    ("shown", "said", "same"),
    [('{"id":"…","n":1}', '{"id":"a1","n":1}', True), ('{"id":"…","n":1}', '{"id":"a1","n":2}', False)],
)
def test_the_comparison_can_fail(shown: str, said: str, same: bool) -> None:
    assert is_as_shown(shown, said) is same
