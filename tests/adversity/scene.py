"""What the adversity tests share: how big they are, a gateway's address, and what it says about itself.

`ADVERSITY=full` in the environment runs every test here at its full size (thousands of clients, minutes); without
it they are small enough for every day.
"""

import json
import os
import re
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from tests.gateways import Running
from tests.transports.raw import Address

LEAST_PATIENCE: Final = 60.0
"""Seconds for whatever is waited for, however busy the machine is."""
FULL: Final = os.environ.get("ADVERSITY") == "full"


def sized(small: int, full: int) -> int:
    """How many, in the form that was asked for."""
    return full if FULL else small


def address_of(url: str) -> Address:
    """Host and port of a URL that names both."""
    parts = urlsplit(url)
    assert parts.hostname is not None
    assert parts.port is not None
    return parts.hostname, parts.port


def fetch(running: Running, path: str, body: object = None) -> Any:
    """GET (or POST with a body) on the gateway's HTTP port: the JSON that it answers."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(running.base_url + path, data, {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


def metric(running: Running, name: str, labels: str = ".*") -> float:
    """A number from /metrics: that with these labels (a pattern), or all together. 0 if there is none yet."""
    with urllib.request.urlopen(f"{running.base_url}/metrics", timeout=30) as answer:
        text = answer.read().decode()
    assert f"portico_{name.removesuffix('_total')}" in text, f"there is no metric {name}"
    found = re.findall(rf"^portico_{name}(?:\{{{labels}\}})? (\S+)$", text, re.MULTILINE)
    return sum(map(float, found))


def children(pid: int) -> list[int]:
    """The processes that a process has started."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def serving_pid(running: Running) -> int:
    """The process that serves: Hypercorn's worker, or `portico serve` itself."""
    pid = running.process.pid
    # Of a master's children the tracker of resources serves nobody.
    workers = [child for child in children(pid) if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()]
    return workers[-1] if workers else pid


def memory(pid: int) -> int:
    """Bytes of memory that a process has resident."""
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found
    return int(found[1]) * 1024


def descriptors(pid: int) -> int:
    """How many descriptors a process has open."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def eventually(condition: Callable[[], bool], seconds: float, what: str) -> None:
    """Wait for what another process will do. AssertionError, naming `what`, if it doesn't.

    `seconds` is what it may take on a machine with nothing else to do; a busy one is given LEAST_PATIENCE.
    """
    end = time.monotonic() + max(seconds, LEAST_PATIENCE)
    while not condition():
        assert time.monotonic() < end, f"not in {seconds} s: {what}"
        time.sleep(0.02)  # there is no event for what another process does
