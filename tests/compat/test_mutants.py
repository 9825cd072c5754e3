"""The suite can fail: a broken rule of the contract is caught by the scenario that is meant for it.

What breaks it is a middle before a real gateway; unbroken, the middle is not noticed.

All mutants run side by side against one gateway, and each plays the one scenario that its row of the table names. Those
about a history that is lost have a gateway with a Redis, and come one after another.
"""

from collections.abc import Iterator

import pytest
import trio

from compat.clients import BARE
from compat.deployment import Target
from compat.outcome import UnusableError
from compat.report import Result
from compat.runner import STRATEGIES, Plan, run
from compat.script import Scenario, parse, read
from tests.backplane.redis_server import RedisServer
from tests.gateways import gateway

from .deployments import IDLE, OFTEN, admin_token, forgetting, tokens_are
from .middle import Rule, middle
from .mutant_table import TABLE
from .mutants import Drains, Mutant, Unpinged

pytestmark = pytest.mark.live

ALL = {row.name: row for row in read()}
ALONE = ("worker-handshake", "worker-silent", "worker-commands", "worker-no-secret")
"""In these a worker may serve every command, the others' too, and take their requests. (The last is about production;
outside it what connects there without naming commands is a worker for all of them.)"""
AT_ONCE = 12
PATIENCE = 3.0
"""Seconds for what a mutant keeps back. On a starved machine something else may take longer; then there is `LONG`."""
LONG = 90.0
LARGE = ("worker-large", "requester-longest", "push-large", "large-message", "too-large")
"""Megabytes take their time on a busy machine, and no mutant of these keeps anything back."""


HEARTBEATS = parse(
    "heartbeats-alone",
    """
title: where nobody is pinged, heartbeats as often as the gateway says keep a connection open
protocol: what-a-client-may-send
a connects @idle/ws
a sends {"type": "c_client_register", "client_id": "$a"}
a gets {"type": "registration_success", "heartbeat_interval": "$interval"}
a waits 1.3 {"every": "$interval", "sends": {"type": "heartbeat"}, "gets": {"type": "heartbeat"}}
""",
)


@pytest.fixture(scope="module")
def base_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A gateway's that looks at tokens and asks for none."""
    settings = {**tokens_are("optional"), **OFTEN}
    with gateway(tmp_path_factory.mktemp("gateway"), mode="integrated", settings=settings) as live:
        yield live.base_url


@pytest.fixture(scope="module")
def with_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, RedisServer]]:
    """Another's, and the Redis that has its history."""
    folder = tmp_path_factory.mktemp("with-redis")
    redis = RedisServer(folder / "redis")
    redis.start()
    try:
        settings = {**tokens_are("optional"), "REDIS_URL": redis.url}
        with gateway(folder, mode="integrated", settings=settings) as live:
            yield live.base_url, redis
    finally:
        redis.kill()


async def played(
    base_url: str, rule: Rule, *scenarios: Scenario, timeout: float, redis: RedisServer | None = None
) -> list[Result]:
    """Play them, with the deployment that they are about where it is one."""
    async with middle(base_url, rule) as url:
        needs = frozenset[str]().union(*(scenario.needs for scenario in scenarios))
        auth = "off" if "auth-off" in needs else "required" if "auth-required" in needs else "optional"
        target = Target(
            url, timeout=timeout, invasive=True, auth=auth, token=admin_token(), queue="no-queue" not in needs,
            short_history="short-history" in needs, idle_timeout=IDLE,
            lose_history=None if redis is None else forgetting(redis),
            strategy=next((name for name, need in STRATEGIES.items() if need in needs), "least_loaded"),
        )  # fmt: skip
        try:
            return await run(Plan(target, scenarios, [BARE]))
        except UnusableError as error:
            # Not from here to the caller: it would come out of the middle's nursery in a group.
            return [Result(scenarios[0].name, BARE, "failed", str(error), 0.0)]


async def survives(base_url: str, mutant: Mutant, redis: RedisServer | None = None) -> str:
    """What came of a mutant; empty where it is caught, with the right words."""
    patience = LONG if mutant.scenario in LARGE else PATIENCE
    said = await outlives(base_url, mutant, patience, redis)
    if " within " in said:
        # Nothing came in time, and not what the mutant keeps back: the machine has no time for us now.
        said = await outlives(base_url, mutant, LONG, redis)
    return said


async def outlives(base_url: str, mutant: Mutant, patience: float, redis: RedisServer | None) -> str:
    """The same, with so many seconds for everything that is expected."""
    (result,) = await played(base_url, mutant.rule(), ALL[mutant.scenario], timeout=patience, redis=redis)
    fine = result.outcome == "failed" and mutant.because in result.reason
    return "" if fine else f"{result.scenario} {result.outcome}: {result.reason}"


async def test_each_broken_rule_is_caught_by_the_scenario_meant_for_it(base_url: str) -> None:
    survived: dict[str, str] = {}
    places = trio.CapacityLimiter(AT_ONCE)
    mutants = [mutant for mutant in TABLE if "history-lost" not in ALL[mutant.scenario].needs]

    async def hunt(mutant: Mutant) -> None:
        async with places:
            if said := await survives(base_url, mutant):
                survived[mutant.name] = said

    for mutant in mutants:
        if mutant.scenario in ALONE:
            await hunt(mutant)
    async with trio.open_nursery() as nursery:
        for mutant in mutants:
            if mutant.scenario not in ALONE:
                nursery.start_soon(hunt, mutant)
    assert survived == {}


async def test_a_history_that_is_lost_otherwise_than_it_should_be(with_redis: tuple[str, RedisServer]) -> None:
    base_url, redis = with_redis
    (sound,) = await played(base_url, Rule(), ALL["stream-gap"], timeout=LONG, redis=redis)
    assert (sound.outcome, sound.reason) == ("passed", ""), "\n".join(sound.transcript)
    mutants = [mutant for mutant in TABLE if "history-lost" in ALL[mutant.scenario].needs]
    survived = {mutant.name: await survives(base_url, mutant, redis) for mutant in mutants}
    assert {name: said for name, said in survived.items() if said} == {}


async def test_an_unbroken_middle_is_not_noticed(base_url: str) -> None:
    elsewhere = {
        "production", "plain", "auth-off", "auth-required", "no-queue", "short-history", "round-robin", "random",
        "weighted-random", "history-lost",
    }  # fmt: skip
    scenarios = [row for name, row in ALL.items() if name != "drain" and not row.needs & elsewhere]
    results: list[Result] = []

    async def play(rule: Rule, *rows: Scenario) -> None:
        results.extend(await played(base_url, rule, *rows, timeout=60))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(play, Rule(), *scenarios)
        nursery.start_soon(play, Unpinged(), HEARTBEATS)
    # To least_loaded, weights are what they are to weighted_random, but for chance.
    await play(Rule(), ALL["balance-weighted-random"])
    await play(Drains(), ALL["drain"])
    assert [(row.scenario, row.outcome, row.reason) for row in results if row.outcome != "passed"] == []
    assert len(results) == len(scenarios) + 3


def test_no_worker_that_serves_every_command_is_among_those_that_are_played_side_by_side() -> None:
    for_all = set()
    for row in ALL.values():
        for step in row.steps:
            path = step.words[0] if step.verb == "connects" else ""
            said = step.value if step.verb == "sends" and isinstance(step.value, dict) else {}
            data = said.get("data")
            names_none = isinstance(data, dict) and data.get("role") == "worker" and "commands" not in data
            if path in ("/worker", "@workers", "@older") or names_none:
                for_all.add(row.name)
    assert for_all & {mutant.scenario for mutant in TABLE} == set(ALONE) - {"worker-commands"}


def test_there_are_many_and_each_says_how_it_is_caught() -> None:
    assert len(TABLE) >= 60
    assert len({mutant.name for mutant in TABLE}) == len(TABLE)
    assert all(mutant.because for mutant in TABLE)
    assert {mutant.scenario for mutant in TABLE} <= ALL.keys()
    without = {name for name in ALL if name not in {mutant.scenario for mutant in TABLE}}
    # Of production, or of a base URL without a port: what these look at is broken in rows of the same kind.
    assert {name for name in without if not ALL[name].needs & {"production", "plain"}} == set()
