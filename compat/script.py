"""A scenario as it is written: a text file with a few headers, and one step on each line.

Knows the text only; what the steps do is `play`'s affair. A file reads like the transcript that it demands:

    title: an older worker begins with a handshake
    protocol: envelope-dialect, who-may-be-a-worker
    needs: workers

    worker connects /
    worker sends {"type": "handshake", "data": {"handshake_key": "$handshake_key"}}
    worker gets {"type": "notification", "data": {"title": "Handshake Successful"}}

`1..12 a gets {"n": %i}` is twelve lines, with `%i` counted; `a,b gets …` is one line for each of the two. A line that
begins with white space goes on with the one before; ` @ ` is between several steps on one. `#` begins a comment.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

FOLDER: Final = Path(__file__).parent / "scenarios"
NEEDS: Final = {
    "api": "it drives the HTTP API for back ends",
    "workers": "it connects workers",
    "headers": "the client sets a header of the handshake",
    "subprotocols": "the client offers subprotocols",
    "binary": "the client sends binary messages",
    "status": "the client is told with which status a handshake was refused",
    "plain": "the base URL has no port, no path, and is http",
    "http": "the base URL is http",
    "development": "the deployment is in development",
    "production": "the deployment is in production",
    "once": "only one client program plays it",
    "invasive": "it disturbs others, or takes the node down",
    "one-node": "requests keep their order, and a worker is chosen by what is known at this moment, within a node only",
    "least-loaded": "the strategy is least_loaded",
    "round-robin": "the strategy is round_robin",
    "random": "the strategy is random",
    "weighted-random": "the strategy is weighted_random",
    "short-history": "no stream keeps more than 5 events",
    "no-queue": "no request waits for a worker",
    "auth-off": "tokens are off",
    "auth-required": "tokens are required",
    "tokens": "tokens are looked at: optional or required",
    "token": "it shows a token that holds",
    "large": "the client takes megabytes in a message",
    "alone": "nothing else is played meanwhile, as it takes something from everybody",
    "history-lost": "a command has the deployment lose its history",
    "idle": "a proxy on the way cuts connections on which nothing passes",
}
VERBS: Final = (
    "discovers", "found", "arrives", "connects", "refused", "registers", "sends", "sends-text", "sends-binary", "gets",
    "gets-text", "gaps", "closes", "closed", "settles", "share", "asks", "answers", "header", "waits", "loses-history",
)  # fmt: skip
TALKS: Final = frozenset({
    "sends", "sends-text", "sends-binary", "gets", "gets-text", "gaps", "closes", "closed", "settles", "share",
})  # fmt: skip
"""The verbs that need a client that can do more than come in, or be refused."""


class WrittenWrongError(Exception):
    """A scenario's file can't be read; the text says where and why."""


@dataclass(frozen=True)
class Step:
    """One line: who does or meets what; `words` are what stands before the JSON, `value` the JSON."""

    line: int
    who: str
    verb: str
    words: tuple[str, ...] = ()
    value: Any = None

    def __str__(self) -> str:
        value = "" if self.value is None else " " + json.dumps(self.value, ensure_ascii=False)
        return " ".join((self.who, self.verb, *self.words)) + value


@dataclass(frozen=True)
class Scenario:
    """One row of the table. `protocol` are the sections of the protocol reference that it shows, by their anchors."""

    name: str
    title: str
    protocol: tuple[str, ...]
    needs: frozenset[str]
    steps: tuple[Step, ...]

    @property
    def uses(self) -> frozenset[str]:
        """What a client program has to be able to do."""
        verbs = {step.verb for step in self.steps}
        found = {"messages"} if verbs & TALKS else set()
        if "closed" in verbs:
            found.add("codes")
        return frozenset(found | self.needs & {"headers", "subprotocols", "binary", "status", "large"})


def _listed(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """The lines that say something, with their numbers, continued ones put together."""
    begun, so_far = 0, ""
    for number, line in enumerate(text.splitlines(), start=1):
        if line.startswith("#") or not line.strip():
            continue
        if line[0].isspace():
            so_far += " " + line.strip()
            continue
        if so_far:
            yield begun, so_far
        begun, so_far = number, line.rstrip()
    if so_far:
        yield begun, so_far


_HEADER: Final = re.compile(r"(title|protocol|needs): (.*)")
_COUNT: Final = re.compile(r"(\d+)\.\.(\d+) (.*)", re.DOTALL)
_STEP: Final = re.compile(r"([a-z][\w,]*) ([a-z-]+)(?: (.*))?", re.DOTALL)
_JSON: Final = re.compile(r'(?<=\s)[\[{"].*', re.DOTALL)


def parse(name: str, text: str) -> Scenario:
    """Read a scenario; raises WrittenWrongError."""
    headers: dict[str, str] = {}
    steps: list[Step] = []
    for number, line in _lines(text):
        header = _HEADER.fullmatch(line)
        if header is not None and not steps:
            headers[header[1]] = header[2]
            continue
        try:
            for one in (part for counted in _counted(line) for part in counted.split(" @ ")):
                steps.extend(_steps(number, one.strip()))
        except ValueError as error:
            raise WrittenWrongError(f"{name}, line {number}: {error}") from error
    missing = [header for header in ("title", "protocol") if not headers.get(header)]
    needs = frozenset(_listed(headers.get("needs", "")))
    if missing or not steps or not needs <= NEEDS.keys():
        raise WrittenWrongError(f"{name}: it lacks {missing or 'steps'}, or needs what there is not: {sorted(needs)}")
    return Scenario(name, headers["title"], _listed(headers["protocol"]), needs, tuple(steps))


def _counted(line: str) -> Iterator[str]:
    counted = _COUNT.fullmatch(line)
    if counted is None:
        yield line
        return
    first, last = int(counted[1]), int(counted[2])
    for index in range(first, last + 1) if first <= last else range(first, last - 1, -1):
        yield counted[3].replace("%i", str(index))


def _steps(number: int, line: str) -> Iterator[Step]:
    said = _STEP.fullmatch(line)
    if said is None or said[2] not in VERBS:
        raise ValueError(f"no step: {line}")
    rest = " " + (said[3] or "")
    found = _JSON.search(rest)
    words = rest[: found.start()] if found else rest
    value = json.loads(found[0]) if found else None
    for who in _listed(said[1]):
        step = Step(number, who, said[2], tuple(words.split()), value)
        yield from _registration(step) if step.verb == "registers" else (step,)


def _registration(step: Step) -> Iterator[Step]:
    """`a registers {…}`: it arrives, says who it is, and is told so. Its `client_id` is `$a_id` unless it is given."""
    identity = {"client_id": f"${step.who}_id", **(step.value or {})}
    known = {name: identity.get(name) for name in ("client_id", "user_id")}
    resume = {"epoch": "<filled>", "offsets": "<object>", "recovered": True}
    yield Step(step.line, step.who, "arrives")
    yield Step(step.line, step.who, "sends", (), {"type": "c_client_register", **identity})
    yield Step(step.line, step.who, "gets", (), {
        "type": "registration_success", **known, "connection_id": "<filled>", "node": "<filled>",
        "heartbeat_interval": "<positive>", "resume": resume,
    })  # fmt: skip


def read(folder: Path = FOLDER) -> list[Scenario]:
    """Every scenario of a folder, in the order of their file names; raises WrittenWrongError.

    A name is that of the file, without the number that gives it its place.
    """
    paths = sorted(folder.glob("*.txt"))
    return [parse(path.stem.partition("-")[2], path.read_text(encoding="utf-8")) for path in paths]
