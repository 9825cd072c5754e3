"""Coming back in a split deployment: after a drain to another node, and after that one's death to the first.

What an operator does to nodes no client can ask for over HTTP. So the scenario is none of the suite's: a middle before
the API node does what the operator would, and the scenario is seen to fail where that goes wrong.
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
            "drain": self._drain, "start": self._start, "kill-others": self._kill_others,
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
            # The other node is forgotten too, until it renews its lease: that is not what is looked at here.
            until(lambda: b"node:ws-" in self._made.redis.command("KEYS", "*node:ws-*"), "the node that stays is back")
            until(lambda: self._made.api.probe(DISCOVERY) == 200, "the API knows of it")

    def _start(self, name: str) -> None:
        (node,) = (node for node in self._made.nodes if node.name == name)
        node.start()
        node.wait_ready()

    def _kill_others(self, name: str) -> None:
        for node in self._made.nodes:
            if node.name != name:
                node.kill()
        until(lambda: known(self._made) == sorted(["api", name]), "the others are gone")


def known(made: SplitDeployment) -> list[str]:
    """The nodes that the API node knows of. One that was killed is gone after its lease."""
    with urllib.request.urlopen(f"{made.api.base_url}/api/c-client/status", timeout=60) as answer:
        said = json.load(answer)
    # Who is known and does not answer is among those that are missing.
    return sorted({*said["by_node"], *said.get("missing_nodes", ())})


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SplitDeployment]:
    # A short lease: it waits for the end of those of the dead. A third of it goes by between two renewals, and whoever
    # lives may stand still for the rest.
    with deployment(tmp_path_factory.mktemp("split"), nodes=2, settings={"PORTICO_NODE_LEASE": 3}) as made:
        yield made


async def played(split: SplitDeployment, worse: str = "") -> Result:
    """The scenario, with every node up at its beginning."""
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
        plan = Plan(Target(url, timeout=60, invasive=True, auth="off"), [parse("return", RETURN)], [BARE])
        (result,) = await run(plan)
    return result


async def test_a_client_comes_back_after_a_drain_and_after_a_death_and_misses_nothing(split: SplitDeployment) -> None:
    result = await played(split)
    assert (result.outcome, result.reason) == ("passed", ""), "\n".join(result.transcript)


@pytest.mark.parametrize(("worse", "because"), [("killed", "a was closed with 1006"), ("forgotten", "`resume`.")])
async def test_it_fails_where_that_goes_wrong(split: SplitDeployment, worse: str, because: str) -> None:
    result = await played(split, worse)
    assert result.outcome == "failed", "\n".join(result.transcript)
    assert because in result.reason
