"""Plays scenarios against a live deployment: each kind of client in a lane of its own, the lanes side by side.

Knows stages, scenarios and results. Whatever a scenario does wrong is that one's result and stops no other; what a run
made in the deployment is cleared away at its end, when cancelled too.
"""

import secrets
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import trio
import trio_websocket as tw

from compat.deployment import Deployment, Target
from compat.expect import SkipError, UnmetError, shown
from compat.program import KINDS, NoRuntimeError, command
from compat.report import PROTOCOL, Outcome, Result
from compat.scenario import Scenario
from compat.stage import Stage

SCENARIO_LIMIT = 90.0  # seconds on top of twenty single time limits: nothing may hang a run for ever


@dataclass(frozen=True)
class Plan:
    """What to play where; `kinds` are the client programs, `use_api` whether the HTTP API may be driven."""

    target: Target
    scenarios: Sequence[Scenario]
    kinds: Sequence[str] = KINDS
    use_api: bool = True
    told: Callable[[Result], None] = field(default=lambda result: None)


async def run(plan: Plan) -> list[Result]:
    """Play every scenario of the plan; returns the results in the scenarios' order.

    Raises UnusableError where the deployment can't be reached or refuses the calls. Cancelling is safe: the client
    programs are ended and the login sessions removed first.
    """
    results: list[Result] = []
    prefix = f"compat-{secrets.token_hex(4)}"

    def note(result: Result) -> None:
        results.append(result)
        plan.told(result)

    async with Deployment(plan.target) as deployment:
        await deployment.look()
        if plan.use_api and any(scenario.needs_api for scenario in plan.scenarios):
            await deployment.may_call()
        try:
            async with trio.open_nursery() as nursery:
                for kind in (*plan.kinds, PROTOCOL):
                    nursery.start_soon(_lane, plan, deployment, kind, f"{prefix}-{kind}", note)
        finally:
            with trio.move_on_after(plan.target.timeout, shield=True):
                await deployment.tidy()
    rows = [scenario.name for scenario in plan.scenarios]
    lanes = [*KINDS, PROTOCOL]
    return sorted(results, key=lambda result: (rows.index(result.scenario), lanes.index(result.client)))


async def _lane(plan: Plan, deployment: Deployment, kind: str, prefix: str, note: Callable[[Result], None]) -> None:
    missing = ""
    program: list[str] = []
    if kind != PROTOCOL:
        try:
            program = await command(kind)
        except NoRuntimeError as error:
            missing = str(error)
        except (OSError, ValueError, subprocess.CalledProcessError) as error:
            missing = f"`node` doesn't run here ({error})"
    for number, scenario in enumerate(plan.scenarios, start=1):
        if scenario.by_client != (kind != PROTOCOL):
            continue
        if missing:
            note(Result(scenario.name, kind, "skipped", missing, 0.0))
        elif scenario.needs_api and not plan.use_api:
            note(Result(scenario.name, kind, "skipped", "it needs the HTTP API, and --no-api was given", 0.0))
        else:
            note(await _play(scenario, deployment, kind, f"{prefix}-{number}", program))


async def _play(scenario: Scenario, deployment: Deployment, kind: str, prefix: str, program: list[str]) -> Result:
    begun = trio.current_time()
    outcome: Outcome = "passed"
    reason = ""
    try:
        with trio.fail_after(SCENARIO_LIMIT + 20 * deployment.target.timeout):
            async with trio.open_nursery() as nursery:
                stage = Stage(deployment, prefix, program, nursery)
                try:
                    await scenario.play(stage)
                # A fault of one scenario's own is its row's result too, and mustn't take the others' rows along.
                except Exception as error:
                    outcome, reason = _verdict(error)
                finally:
                    ms = 1000 * (trio.current_time() - begun)
                    await stage.clear()
                nursery.cancel_scope.cancel()
    except trio.TooSlowError:
        outcome, reason = "failed", "it came to no end"
    except ExceptionGroup as group:
        # Where a WebSocket is refused with a body, its reader says so in our nursery, and not to whoever opened it.
        refused, others = group.split(tw.HandshakeError)
        if refused is None or others is not None:
            raise
        outcome, reason = "failed", f"a WebSocket was refused: {shown(str(_leaf(refused)))}"
    return Result(scenario.name, kind, outcome, reason, ms)


def _leaf(error: Exception) -> Exception:
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return error


def _verdict(error: Exception) -> tuple[Outcome, str]:
    if isinstance(error, SkipError):
        return "skipped", str(error)
    if isinstance(error, UnmetError):
        return "failed", str(error)
    return "failed", f"the scenario itself broke: {type(error).__name__}: {shown(str(error))}"
