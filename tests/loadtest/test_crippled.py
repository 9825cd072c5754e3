"""Deployments crippled in one way each: the thresholds that come with the load test fail for that reason and no other.

The gateway is scripted, with the times at which it says things, so nothing here waits; what is judged, and how, is the
load test's own.
"""

import time
from argparse import Namespace
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import gevent
import pytest

from loadtest import _thresholds
from loadtest._campaign import Campaign
from loadtest._ledger import Ledger, Plan, Report
from loadtest._marks import PUSH_TYPE, LoadMark
from loadtest._member import Member
from loadtest._thresholds import Thresholds
from tests.loadtest.told import Told

CLIENTS = 20
PUSHES = 400
"""To single users, twenty for each; each heartbeats as often."""
BROADCASTS = 30
QUICK = 0.004
SCRIPTED = ("heartbeat", "push", "delivery", "broadcast")


@dataclass
class Said:
    """Something that the gateway says to one client; `user`: whom it is for."""

    kind: str
    number: int
    client: int
    due: float
    at: float
    user: int


Fault = Callable[[list[Said]], list[Said]]


@pytest.fixture
def campaign() -> Iterator[Campaign]:
    options = Namespace(heartbeat_interval=3600.0, step_timeout=10.0)
    made = Campaign(Namespace(parsed_options=options, host="http://127.0.0.1:9"))
    yield made
    made.schedule.close()
    made.reactor.close()
    assert made.schedule.faults == []


def thresholds() -> Thresholds:
    """Those that come with it, on what is scripted here."""
    known = _thresholds.load(Path(_thresholds.__file__).with_name("thresholds.toml"))
    return Thresholds(tuple(limit for limit in known.limits if limit.step in (None, *SCRIPTED)), known.load)


def script(start: float) -> list[Said]:
    """What a sound gateway says over twenty seconds, each of it a few milliseconds after it was due."""
    said = []
    for number in range(PUSHES):
        due = start + number * 0.05
        client = number % CLIENTS
        said += [Said(kind, number, client, due, due + QUICK, client) for kind in ("push", "delivery", "heartbeat")]
    for number in range(BROADCASTS):
        due = start + number * 0.6
        said += [Said("broadcast", number, client, due, due + QUICK, client) for client in range(CLIENTS)]
    return said


def failed(campaign: Campaign, fault: Fault) -> dict[str, str]:
    """The thresholds that fail, and what was measured, where the gateway's answers are changed in this way."""
    started = time.time()
    links, members = [Told() for _ in range(CLIENTS)], []
    for client, link in enumerate(links):
        name = f"c{client}"
        member = Member(campaign, link, name, name)  # type: ignore[arg-type]  # all of a link that it needs
        asking = gevent.spawn(member.register)
        gevent.sleep(0)
        ack = {"client_id": name, "user_id": name, "connection_id": f"k{client}", "node": f"n{client % 2}"}
        link.says({"type": "registration_success", "heartbeat_interval": 25, **ack})
        asking.get(timeout=30)
        members.append(member)
    start = time.time() + 1
    sound = script(start)
    for each in sound:
        if each.kind == "delivery":
            campaign.count("aimed", 0).expected += 1
        elif each.kind == "heartbeat":
            members[each.client]._pending.append(each.due)
        elif each.kind == "broadcast" and each.client == 0:
            campaign.tally.broadcasts.append((0, each.due))
    for each in sorted(fault(script(start)), key=lambda said: said.at):
        if each.kind == "push":
            campaign.report("push", each.due, each.at)
        elif each.kind == "heartbeat":
            links[each.client].says({"type": "heartbeat"}, at=each.at)
        else:
            links[each.client].says(push(campaign, each), at=each.at)
    ledger = Ledger()
    ledger.begin_stage(Plan("hold 20", "hold", CLIENTS, started))
    campaign.hold()
    for member in members:
        campaign.enter(member)
    campaign.finish()
    ledger.add("local", Report(*campaign.take()))
    ledger.end(start + 30)
    found = ledger.run(thresholds())
    assert found.invalid == []
    slow = {f"slow: {sentence}": "" for sentence in found.slow_nodes}
    return slow | {row.name: row.measured for row in found.rows if not row.passed}


def push(campaign: Campaign, said: Said) -> dict[str, Any]:
    """A measuring push, which was sent when those before it had been accepted."""
    user = f"c{said.user}" if said.kind == "delivery" else None
    number = said.number + 1
    mark = LoadMark(campaign.run, "p", number, number - 1, 0, said.due, said.due, 3, user)
    return {"type": PUSH_TYPE, "load": [getattr(mark, name) for name in LoadMark.__struct_fields__], "padding": "xxx"}


def one_in_a_hundred(kind: str, change: Callable[[Said], list[Said]]) -> Fault:
    """Change one in a hundred of a kind; every 101st, so that it isn't always the same client's."""

    def fault(said: list[Said]) -> list[Said]:
        found, count = [], 0
        for each in said:
            count += each.kind == kind
            found += change(each) if each.kind == kind and count % 101 == 50 else [each]
        return found

    return fault


def lost(_: Said) -> list[Said]:
    return []


def doubled(said: Said) -> list[Said]:
    return [said, replace(said, at=said.at + 0.001)]


def held_back(said: Said) -> list[Said]:
    """Until just after the next one to that client, which for pushes to one user takes a second here."""
    return [replace(said, at=said.at + (1.01 if said.kind == "delivery" else 0.61))]


def misled(said: Said) -> list[Said]:
    return [replace(said, client=(said.client + 1) % CLIENTS)]


def slow_node(said: list[Said]) -> list[Said]:
    """Every other client is at a node that says everything 0.6 s later; pushes are accepted by the other one."""
    slow = [each for each in said if each.client % 2 and each.kind != "push"]
    for each in slow:
        each.at += 0.6
    return said


def sleeping_handler(said: list[Said]) -> list[Said]:
    """The handler of pushes sleeps for 0.7 s before it does anything, without holding up anything else."""
    for each in said:
        if each.kind != "heartbeat":
            each.at += 0.7
    return said


def standing_still(said: list[Said]) -> list[Said]:
    """A handler blocks the whole process for 3 s, once."""
    begin = min(each.due for each in said) + 5
    for each in said:
        if begin <= each.at < begin + 3:
            each.at = begin + 3
    return said


TIMES = {f"{step} {limit}" for step in SCRIPTED for limit in ("p95_ms", "p99_ms")}
CRIPPLED: dict[str, tuple[Fault, set[str]]] = {
    "one push in a hundred lost": (one_in_a_hundred("delivery", lost), {"min_aimed_delivered_share"}),
    "one push in a hundred doubled": (
        one_in_a_hundred("delivery", doubled),
        {"max_doubled", "delivery max_failure_ratio"},
    ),
    "one push in a hundred out of order": (
        one_in_a_hundred("delivery", held_back),
        {"max_reordered", "delivery max_failure_ratio"},
    ),
    "one push in a hundred to another user": (
        one_in_a_hundred("delivery", misled),
        {"max_misdirected", "delivery max_failure_ratio", "min_aimed_delivered_share"},
    ),
    "one broadcast delivery in a hundred lost": (
        one_in_a_hundred("broadcast", lost),
        {"min_broadcast_delivered_share"},
    ),
    "one broadcast delivery in a hundred doubled": (
        one_in_a_hundred("broadcast", doubled),
        {"max_doubled", "broadcast max_failure_ratio"},
    ),
    "one broadcast delivery in a hundred out of order": (
        one_in_a_hundred("broadcast", held_back),
        {"max_reordered", "broadcast max_failure_ratio"},
    ),
    # Heartbeats have no numbers: the answers after a lost one are those to the heartbeat before.
    "one heartbeat in a hundred unanswered": (
        one_in_a_hundred("heartbeat", lost),
        {"heartbeat max_failure_ratio", "heartbeat p95_ms", "heartbeat p99_ms"},
    ),
    "one heartbeat in a hundred answered twice": (one_in_a_hundred("heartbeat", doubled), {"max_protocol_errors"}),
    "a slow node of two": (slow_node, {"heartbeat p95_ms", "delivery p95_ms", "broadcast p95_ms"}),
    "a sleep in the handler of pushes": (sleeping_handler, {"push p95_ms", "delivery p95_ms", "broadcast p95_ms"}),
    "a sleep that blocks the process": (standing_still, TIMES),
}


def test_a_sound_deployment_passes(campaign: Campaign) -> None:
    assert failed(campaign, lambda said: said) == {}


@pytest.mark.parametrize(("fault", "expected"), CRIPPLED.values(), ids=CRIPPLED.keys())
def test_a_crippled_deployment_fails_for_the_right_reason(campaign: Campaign, fault: Fault, expected: set[str]) -> None:
    found = failed(campaign, fault)
    named = {sentence for sentence in found if sentence.startswith("slow: ")}
    assert set(found) - named == expected, found
    # A node is named where one of the two is slow, and nowhere else.
    assert [sentence.split(" is slower")[0] for sentence in named] == (
        ["slow: the node n1"] if fault is slow_node else []
    )
