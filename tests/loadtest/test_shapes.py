"""The shapes, led by somebody who holds what they ask for at once. In a process of their own: locust patches it."""

import json
import subprocess
import sys

from tests.gateways import ROOT

PROGRAM = """
import json, sys, types
from loadtest import _shapes

defaults = dict(stairs="10,20,30", hold=5, keep_climbing=False, num_users=None, spawn_rate=7, run_time=None)
defaults |= dict(storm_share=0.5, storm_window=2)

class Lead:
    least_held, users, stormed, held_again = 0.0, 0, 0, 0
    def holding(self):
        return (self.users, 9.0)
    def judge_hold(self):
        return types.SimpleNamespace(verdict=verdicts.pop(0) if len(verdicts) > 1 else verdicts[0])
    def begin_hold(self, name):
        self.held_again += 1
    def storm(self, share, window):
        self.stormed += 1

found = []
for name, given, options in json.loads(sys.argv[1]):
    verdicts = given.split(",")
    shape = _shapes.SHAPES[name]()
    _shapes.time = types.SimpleNamespace(perf_counter=lambda: 0.0)
    shape.lead = Lead()
    shape.runner = types.SimpleNamespace(
        environment=types.SimpleNamespace(parsed_options=types.SimpleNamespace(**(defaults | options)))
    )
    shape.reset_time()
    shape.start_time, ticks, held = 0.0, [], []
    while len(ticks) < 8 and (tick := shape.tick()) is not None:
        # Until locust has asked for these, as many as before are there.
        held.append(shape.lead.users >= shape.lead.least_held)
        ticks.append(tick)
        shape.lead.users = tick[0]
        held.append(shape.lead.users >= shape.lead.least_held)
        _shapes.time.perf_counter = lambda: 2.0 * len(ticks)
    found.append([ticks, shape.lead.stormed, shape.lead.held_again, held])
print(json.dumps(found))
"""


CASES: list[tuple[str, str, dict[str, object], list[list[float]]]] = [
    ("staircase", "met", {}, [[10, 7], [20, 7], [30, 7]]),
    ("staircase", "met,not met", {}, [[10, 7], [20, 7]]),
    ("staircase", "invalid", {}, [[10, 7]]),
    ("staircase", "not met", {"keep_climbing": True}, [[10, 7], [20, 7], [30, 7]]),
    ("staircase", "met", {"num_users": 25}, [[10, 7], [20, 7], [25, 7]]),
    ("spike", "met", {"num_users": 50}, [[5, 7], [50, 70], [5, 70]]),
    ("reconnect-storm", "met", {"num_users": 50}, [[50, 7]] * 3),
    ("soak", "met", {"num_users": 50}, [[50, 7]] * 8),
    ("ramp", "met", {"num_users": 50, "run_time": 12}, [[users, 50 / 6] for users in (5, 20, 35, 50, 50, 50)]),
]


def test_shapes_ask_for_their_numbers() -> None:
    asked = json.dumps([case[:3] for case in CASES])
    done = subprocess.run([sys.executable, "-c", PROGRAM, asked], cwd=ROOT, check=True, capture_output=True, text=True)
    for (name, _, _, ticks), (found, stormed, held_again, held) in zip(CASES, json.loads(done.stdout), strict=True):
        assert found == ticks
        assert stormed == (name == "reconnect-storm")
        assert held_again == (7 if name == "soak" else 0)
        # What is on its way up is not held, not even in the moment before locust knows of the last number.
        assert held == ([False] * 7 + [True] * 5 if name == "ramp" else [True] * len(held))
