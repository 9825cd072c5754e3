"""A worker of locust's that listens late hears what it missed. In a process of its own: locust patches it."""

import json
import subprocess
import sys

from tests.gateways import ROOT

PROGRAM = """
import json, types
from gevent.event import Event
from loadtest import _crew

class Runner:
    def __init__(self):
        self.handlers, self.sent, self.told, self.state = {}, [], [], "ready"
        self.clients = types.SimpleNamespace(all=[])
        self.worker_count = 1
    def register_message(self, name, handler):
        self.handlers[name] = handler
    def send_message(self, name, data=None, client_id=None):
        self.sent.append((name, client_id))
        self.told.append((name, data))

class Events:
    def __getattr__(self, name):
        return types.SimpleNamespace(add_listener=lambda listener: None)

def message(data):
    return types.SimpleNamespace(data=data, node_id="w1")

class Campaign:
    run, processes, rate, source_addresses, held_at, arrived = "", 1, 1.0, 1, None, 0
    clock_offset = clock_error = 0.0
    def __init__(self):
        self.may_begin = Event()

def worker(state):
    begun = []
    made = Runner()
    environment = types.SimpleNamespace(events=Events(), parsed_options=None)
    campaign = Campaign()
    its = _crew.Worker(environment, made, campaign)
    its._work = types.SimpleNamespace(
        begin=lambda: begun.append("begin"), begin_stage=lambda *stage: begun.append(stage[0])
    )
    made.state = state
    return its, made, campaign, begun

plan = dict(run="r1", processes=2, rate=5.0, addresses=1, stages=[(0, 1.0), (1, 2.0)], boot=_crew.boot_id())
found = {}

its, made, campaign, begun = worker("running")
its._plan(message(plan))
found["the test had begun before it listened"] = [campaign.run, begun]
its._plan(message(plan))
found["the same again"] = begun

its, made, campaign, begun = worker("ready")
its._plan(message(plan | {"stages": []}))
its._begin()
its._stage(message({"index": 0, "start": 1.0, "rate": 5.0}))
its._plan(message(plan))
found["a stage was missed"] = begun

its, made, campaign, begun = worker("running")
its._begin()
found["users before the plan"] = [campaign.may_begin.is_set(), list(begun)]
its._plan(message(plan | {"boot": "of another machine"}))
_crew.gevent.sleep(0.6)
asked = [data["asked"] for name, data in made.told if name == "loadtest_clock"]
for at in [0.0, *asked[:-1]]:
    its._clock(message({"asked": at, "at": at - 3600}))
found["users before the clock is known"] = [campaign.may_begin.is_set(), list(begun)]
its._clock(message({"asked": asked[-1], "at": asked[-1] - 3600}))
found["with the clock"] = [campaign.may_begin.is_set(), begun, round(campaign.clock_offset / 3600)]

found["it says that it is here"] = made.sent[:1]

master = Runner()
lead = _crew.Workers(types.SimpleNamespace(events=Events()), master, lambda: "r1", lambda *report: None)
master.handlers["loadtest_here"](message({}))
before = list(master.sent)
lead.begin(5.0, 1)
master.handlers["loadtest_here"](message({}))
found["the master"] = [before, master.sent[-1]]
print(json.dumps(found))
"""


def test_a_worker_that_listens_late_hears_what_it_missed() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == {
        "the test had begun before it listened": ["r1", ["begin", 0, 1]],
        "the same again": ["begin", 0, 1],
        "a stage was missed": ["begin", 0, 1],
        "users before the plan": [False, []],
        "users before the clock is known": [False, []],
        "with the clock": [True, ["begin", 0, 1], -1],
        "it says that it is here": [["loadtest_here", None]],
        "the master": [[], ["loadtest_plan", "w1"]],
    }
