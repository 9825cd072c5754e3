"""Coming back: after a drain, over the restart of a node, and where the history is lost, in a split deployment.

What an operator does to nodes and to Redis no client can ask for over HTTP. So the scenarios here are none of the
suite's; a middle before the API node does what the operator would, and each scenario is seen to fail where that goes
wrong.
"""

import json
import urllib.request
from collections.abc import Iterator

import pytest
import trio

from compat.clients import BARE
from compat.deployment import Target
from compat.report import Result
from compat.runner import Plan, run
from compat.script import parse
from tests.split.deployment import SplitDeployment, deployment
from tests.split.travellers import until

from .middle import Request, Response, Rule, middle

pytestmark = pytest.mark.live

DISCOVERY = "/api/b-client/websocket-info"
RETURN = """
title: after a drain on another node, after that one's death on the first: with what was missed meanwhile
protocol: close-codes, durable-events
needs: api
a arrives
a sends {"type": "c_client_register", "client_id": "$id", "user_id": "$user"}
a gets {"type": "registration_success", "node": "$node", "resume": {"epoch": "$epoch", "offsets":
   {"user:$user": "$kept"}}}
op asks POST /operator/drain {"node": "$node"}
a gets {"type": "server_draining", "retry_within_ms": "<whole>"}
a closed 1012 "<within>"
op answers 200
1..3 api asks POST /api/notifications {"target": {"user_id": "$user"}, "type": "$event", "durable": true,
   "data": {"n": %i}}
   @ api answers 202 {"stream": "user:$user", "offset": "$offset%i"}
a arrives
a sends {"type": "c_client_register", "client_id": "$id", "user_id": "$user", "resume": {"epoch": "$epoch", "offsets":
   {"user:$user": "$kept"}}}
a gets {"type": "registration_success", "node": {"!=": "$node"}, "resume": {"epoch": "$epoch", "recovered": true,
   "offsets": {"user:$user": "$kept"}}}
1..3 a gets {"type": "$event", "n": %i, "stream": "user:$user", "offset": "$offset%i"}
op asks POST /operator/start {"node": "$node"}
op answers 200
op asks POST /operator/kill-others {"node": "$node"}
a closed 1006
op answers 200
4..6 api asks POST /api/notifications {"target": {"user_id": "$user"}, "type": "$event", "durable": true,
   "data": {"n": %i}}
   @ api answers 202 {"stream": "user:$user", "offset": "$offset%i"}
a arrives
a sends {"type": "c_client_register", "client_id": "$id", "user_id": "$user", "resume": {"epoch": "$epoch", "offsets":
   {"user:$user": "$offset3"}}}
a gets {"type": "registration_success", "node": "$node", "resume": {"epoch": "$epoch", "recovered": true,
   "offsets": {"user:$user": "$offset3"}}}
4..6 a gets {"type": "$event", "n": %i, "stream": "user:$user", "offset": "$offset%i"}
"""

GAP = """
title: where the history is lost while clients are connected they are told so, once for each stream, and go on
protocol: durable-events
needs: api
a arrives
a sends {"type": "c_client_register", "client_id": "$id", "user_id": "$user"}
a gets {"type": "registration_success", "resume": {"epoch": "$epoch"}}
op asks POST /operator/lose-history {"node": "ws-1"}
# Of its user, of itself, and of all.
1..3 a gets {"type": "stream_gap", "streams": ["<filled>"], "epoch": {"!=": "$epoch"}, "offsets": "<object>"}
op answers 200
api asks POST /api/notifications {"target": {"user_id": "$user"}, "type": "$event", "durable": true, "data": {"n": 1}}
api answers 202 {"stream": "user:$user"}
a gets {"type": "$event", "n": 1, "stream": "user:$user"}
"""


class Operator(Rule):
    """Does with the deployment what an operator would; `worse` is what goes wrong with it."""

    def __init__(self, made: SplitDeployment, worse: str = "") -> None:
        super().__init__()
        self._made = made
        self._worse = worse

    async def intercept(self, request: Request) -> Response | None:
        if not request.path.startswith("/operator/"):
            return None
        do = {
            "drain": self._drain, "start": self._start, "kill-others": self._kill_others, "lose-history": self._lose,
        }[request.path.rpartition("/")[2]]  # fmt: skip
        await trio.to_thread.run_sync(do, request.json["node"])
        return Response(200, {"content-type": "application/json"}, b"{}")

    def _drain(self, name: str) -> None:
        (node,) = (node for node in self._made.nodes if node.name == name)
        if self._worse == "killed":
            node.kill()
        else:
            assert node.end() == 0
        if self._worse == "forgotten":
            self._made.redis.command("FLUSHALL")

    def _start(self, name: str) -> None:
        (node,) = (node for node in self._made.nodes if node.name == name)
        node.start()
        node.wait_ready()

    def _kill_others(self, name: str) -> None:
        for node in self._made.nodes:
            if node.name != name:
                node.kill()
        until(lambda: known(self._made) == sorted(["api", name]), "the others are gone")

    def _lose(self, name: str) -> None:
        if self._worse != "kept":
            self._made.redis.kill()
            self._made.redis.start(emptied=True)


def known(made: SplitDeployment) -> list[str]:
    """The nodes that the API node knows of. One that was killed is gone after its lease."""
    with urllib.request.urlopen(f"{made.api.base_url}/api/c-client/status", timeout=60) as answer:
        return sorted(json.load(answer)["by_node"])


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SplitDeployment]:
    with deployment(tmp_path_factory.mktemp("split"), nodes=2) as made:
        yield made


async def played(split: SplitDeployment, text: str, worse: str = "", timeout: float = 60) -> Result:
    """One scenario, with every node up at its beginning."""
    gone = [node for node in split.nodes if node.probe() == 0]
    for node in gone:
        node.kill()
    until(lambda: not set(known(split)) & {node.name for node in gone}, "the dead are gone")
    for node in gone:
        node.start()
    for node in split.nodes:
        node.wait_ready()
    until(lambda: known(split) == ["api", "ws-1", "ws-2"] and split.api.probe(DISCOVERY) == 200, "all are known")
    async with middle(split.api.base_url, Operator(split, worse)) as url:
        plan = Plan(Target(url, timeout=timeout, invasive=True, auth="off"), [parse("return", text)], [BARE])
        (result,) = await run(plan)
    return result


async def test_a_client_comes_back_after_a_drain_and_after_a_death_and_misses_nothing(split: SplitDeployment) -> None:
    result = await played(split, RETURN)
    assert (result.outcome, result.reason) == ("passed", ""), "\n".join(result.transcript)


async def test_a_client_is_told_at_once_that_the_history_is_lost(split: SplitDeployment) -> None:
    result = await played(split, GAP)
    assert (result.outcome, result.reason) == ("passed", ""), "\n".join(result.transcript)


@pytest.mark.parametrize(
    ("text", "worse", "because", "timeout"),
    [
        (RETURN, "killed", "a was closed with 1006", 60),
        (RETURN, "forgotten", "`resume`.", 60),
        (GAP, "kept", 'a got no {"type": "stream_gap"', 1),
    ],
)
async def test_it_fails_where_that_goes_wrong(
    split: SplitDeployment, text: str, worse: str, because: str, timeout: float
) -> None:
    result = await played(split, text, worse, timeout)
    assert result.outcome == "failed", "\n".join(result.transcript)
    assert because in result.reason
