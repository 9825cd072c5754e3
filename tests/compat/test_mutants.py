"""The suite can fail: a broken rule of the contract is caught by the scenario that is meant for it.

What breaks it is a middle before a real gateway; unbroken, the middle is not noticed.

All mutants run side by side against one gateway, and each plays the one scenario that its row of the table names.
"""

from pathlib import Path

import pytest
import trio

from compat.clients import BARE
from compat.deployment import Target
from compat.outcome import UnusableError
from compat.report import Result
from compat.runner import STRATEGIES, Plan, run
from compat.script import read
from tests.gateways import gateway

from .middle import Rule, middle
from .mutant_table import TABLE
from .mutants import Drains, Mutant
from .test_modes import admin_token, tokens_are

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


async def played(base_url: str, rule: Rule, *names: str, timeout: float) -> list[Result]:
    async with middle(base_url, rule) as url:
        needs = frozenset[str]().union(*(ALL[name].needs for name in names))
        auth = "off" if "auth-off" in needs else "required" if "auth-required" in needs else "optional"
        target = Target(
            url, timeout=timeout, invasive=True, auth=auth, token=admin_token(), queue="no-queue" not in needs,
            short_history="short-history" in needs,
            strategy=next((name for name, need in STRATEGIES.items() if need in needs), "least_loaded"),
        )  # fmt: skip
        return await run(Plan(target, [ALL[name] for name in names], [BARE]))


async def test_each_broken_rule_is_caught_by_the_scenario_meant_for_it(tmp_path: Path) -> None:
    survived: dict[str, str] = {}
    with gateway(tmp_path, mode="integrated", settings=tokens_are("optional")) as live:
        places = trio.CapacityLimiter(AT_ONCE)

        async def caught(mutant: Mutant, patience: float) -> str:
            """Empty where the mutant is caught with the right words; else what came of it."""
            try:
                (result,) = await played(live.base_url, mutant.rule(), mutant.scenario, timeout=patience)
            except UnusableError as error:
                return str(error)
            fine = result.outcome == "failed" and mutant.because in result.reason
            return "" if fine else f"{result.scenario} {result.outcome}: {result.reason}"

        async def hunt(mutant: Mutant) -> None:
            async with places:
                said = await caught(mutant, LONG if mutant.scenario in LARGE else PATIENCE)
                if " within " in said:
                    # Nothing came in time, and not what the mutant keeps back: the machine has no time for us now.
                    said = await caught(mutant, LONG)
            if said:
                survived[mutant.name] = said

        for mutant in TABLE:
            if mutant.scenario in ALONE:
                await hunt(mutant)
        async with trio.open_nursery() as nursery:
            for mutant in TABLE:
                if mutant.scenario not in ALONE:
                    nursery.start_soon(hunt, mutant)
    assert survived == {}


async def test_an_unbroken_middle_is_not_noticed(tmp_path: Path) -> None:
    elsewhere = {
        "production",
        "plain",
        "auth-off",
        "auth-required",
        "no-queue",
        "short-history",
        "round-robin",
        "random",
        "weighted-random",
    }
    names = [name for name, row in ALL.items() if name != "drain" and not row.needs & elsewhere]
    with gateway(tmp_path, mode="integrated", settings=tokens_are("optional")) as live:
        results = await played(live.base_url, Rule(), *names, timeout=60)
        # To least_loaded, weights are what they are to weighted_random, but for chance.
        results += await played(live.base_url, Rule(), "balance-weighted-random", timeout=60)
        results += await played(live.base_url, Drains(), "drain", timeout=60)
    assert [(row.scenario, row.outcome, row.reason) for row in results if row.outcome != "passed"] == []
    assert len(results) == len(names) + 2


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
