"""Plays scenarios against a live deployment: each kind of client in a lane of its own, the lanes side by side.

Knows clients, scenarios and results. Scenarios that disturb all others (`needs: alone`, such as one that loses the
history) come last, one at a time. A scenario that fails stops no other. What a run made in the deployment is cleared
away at its end, also when it is cancelled, and the results until then are kept. Scenarios with workers take turns: a
worker of the older kinds serves every command, so it would get another lane's requests.
"""

import secrets
import subprocess
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import trio

from compat.address import why_not
from compat.bare import BareClient
from compat.clients import BARE, KINDS, Client, Kind, NoRuntimeError, ProcessClient
from compat.deployment import Deployment, Found, Target
from compat.outcome import SkipError, UnmetError
from compat.pattern import shown
from compat.play import ABOUT_TOKENS, Play
from compat.report import Outcome, Result
from compat.script import NEEDS, Scenario
from compat.tokens import auth_of, hidden

SCENARIO_LIMIT = 60.0  # seconds on top of twenty single time limits: nothing may hang a run for ever
LEAVE_LIMIT = 5.0
STRATEGIES = {
    "least_loaded": "least-loaded", "round_robin": "round-robin", "random": "random",
    "weighted_random": "weighted-random",
}  # fmt: skip
"""What scenarios need, by the strategy that they are about."""


@dataclass(frozen=True)
class Plan:
    """What to play where; `kinds` are the client programs, `use_api` whether the HTTP API may be driven."""

    target: Target
    scenarios: Sequence[Scenario]
    kinds: Sequence[str] = tuple(KINDS)
    use_api: bool = True
    told: Callable[[Result], None] = field(default=lambda result: None)


@dataclass
class Run:
    """What a run found so far; it is filled while the run goes on, so that what an interrupted one found is there."""

    results: list[Result] = field(default_factory=list)
    runtimes: dict[str, str] = field(default_factory=dict)
    found: Found = field(default_factory=Found)
    mode: str = ""

    def sorted(self, plan: Plan) -> list[Result]:
        """The results in the scenarios' order, and the clients'."""
        rows = ["mode", *(scenario.name for scenario in plan.scenarios)]
        lanes = list(KINDS)
        return sorted(self.results, key=lambda result: (rows.index(result.scenario), lanes.index(result.client)))


async def run(plan: Plan, into: Run | None = None) -> list[Result]:
    """Play every scenario of the plan; returns the results in the scenarios' order. `into` is filled meanwhile.

    Raises UnusableError where the deployment can't be reached or refuses the calls. Cancelling is safe: the client
    programs are ended and the login sessions removed first.
    """
    told = Run() if into is None else into
    prefix = f"compat-{secrets.token_hex(4)}"

    def note(result: Result) -> None:
        told.results.append(result)
        plan.told(result)

    async with Deployment(plan.target) as deployment:
        await deployment.look()
        told.found = deployment.found
        if plan.use_api and any("api" in scenario.needs for scenario in plan.scenarios):
            await deployment.may_call()
        workers = trio.Lock()
        try:
            await _look_at_mode(plan, deployment, told, note)
            deployment.found.auth = plan.target.auth or await _auth(deployment, f"{prefix}-auth")
            together, alone = ([one for one in plan.scenarios if ("alone" in one.needs) is by_itself]
                               for by_itself in (False, True))  # fmt: skip
            async with trio.open_nursery() as nursery:
                for number, kind in enumerate(plan.kinds):
                    lane = f"{prefix}{number}"
                    nursery.start_soon(_lane, plan, together, deployment, KINDS[kind], lane, note, workers, told)
            for number, kind in enumerate(plan.kinds if alone else ()):
                await _lane(plan, alone, deployment, KINDS[kind], f"{prefix}a{number}", note, workers, told)
        finally:
            with trio.move_on_after(plan.target.timeout, shield=True):
                await deployment.tidy()
    return told.sorted(plan)


async def _look_at_mode(plan: Plan, deployment: Deployment, told: Run, note: Callable[[Result], None]) -> None:
    """Find out in which mode the deployment is. It is a result only if the run was told which mode it should be."""
    given = deployment.found.facts
    base = plan.target.base_url
    http = base.partition("://")[2]
    same = given.get("websocket_port") == (int(http.rpartition(":")[2]) if http.rpartition(":")[2].isdigit() else
                                            (443 if base.startswith("https:") else 80))  # fmt: skip
    if same:
        told.mode = "integrated"
    else:
        async with _client(KINDS[BARE]) as client:
            await client.tell({"do": "connect", "on": "mode", "url": "ws" + base.removeprefix("http") + "/"})
            line = client.line("mode")
            await line.take(plan.target.timeout)
            report = await line.take(plan.target.timeout)
            told.mode = "adjacent" if report is not None and report["event"] == "open" else "split"
    if plan.target.mode is not None:
        wrong = f"it should be {plan.target.mode}, and is {told.mode}" if plan.target.mode != told.mode else ""
        note(Result("mode", BARE, "failed" if wrong else "passed", wrong, 0.0))


async def _auth(deployment: Deployment, name: str) -> str:
    """The deployment's mode of PORTICO_AUTH."""
    async with _client(KINDS[BARE]) as client:
        return await auth_of(client, deployment.found.websocket_url, name, deployment.target.timeout)


@asynccontextmanager
async def _client(kind: Kind) -> AsyncIterator[Client]:
    """A client of a kind, while the block runs; raises NoRuntimeError where there is none here."""
    async with trio.open_nursery() as nursery:
        if kind.name == BARE:
            bare = BareClient(nursery)
            try:
                yield bare
            finally:
                await bare.leave()
        else:
            client = await ProcessClient.start(kind, nursery)
            try:
                yield client
            finally:
                await client.leave()
        nursery.cancel_scope.cancel()


def applies(scenario: Scenario, kind: Kind, plan: Plan) -> bool:
    """Whether a cell of the table is to be filled at all."""
    if "once" in scenario.needs and kind.name != plan.kinds[0]:
        return False
    return scenario.uses <= kind.can


def why_skipped(scenario: Scenario, plan: Plan, deployment: Deployment) -> str | None:
    """Why a scenario can't be played against this deployment, by what the run was given; None where it can."""
    target, needs = plan.target, scenario.needs
    production = deployment.found.environment == "production"
    if "api" in needs and not plan.use_api:
        return "it needs the HTTP API, and --no-api was given"
    if "invasive" in needs and not target.invasive:
        return f"{NEEDS['invasive']}: --invasive"
    if "plain" in needs and (reason := why_not("base-url", target.base_url)) is not None:
        return reason
    if "http" in needs and not target.base_url.startswith("http:"):
        return "it is about http, and the base URL is https"
    if "development" in needs and production:
        return "it is about development"
    if "production" in needs and not production:
        return "it is about production"
    if "workers" in needs and production and not (target.handshake_key or target.api_key):
        return "in production a worker needs a secret: give --handshake-key or --api-key"
    if "one-node" in needs and deployment.found.nodes > 1:
        return NEEDS["one-node"]
    if needs & set(STRATEGIES.values()) and STRATEGIES.get(target.strategy) not in needs:
        return "it is about another strategy than that of --strategy"
    if "no-queue" in needs and target.queue:
        return "it is about a PORTICO_QUEUE_LIMIT of 0: --no-queue"
    if "history-lost" in needs and target.lose_history is None:
        return "it is about what can't be had over HTTP: give a command that has it lose its history, --lose-history"
    if "idle" in needs and not target.idle_timeout:
        return "it takes longer than a proxy's time-out: --idle-timeout"
    if "short-history" in needs and not target.short_history:
        return "it is about a PORTICO_HISTORY_LENGTH of 5 or less: --short-history"
    return _why_not_by_tokens(scenario, target.token, deployment.found.auth)


def _why_not_by_tokens(scenario: Scenario, token: str | None, auth: str) -> str | None:
    needs = scenario.needs
    if ("auth-off" in needs and auth != "off") or ("auth-required" in needs and auth != "required"):
        return f"it is about other deployments: tokens are {auth} here"
    if needs & {"tokens", "token"} and auth == "off":
        return "tokens are off here"
    connects = any(step.verb in ("arrives", "connects") for step in scenario.steps)
    if token is None and ("token" in needs or (auth == "required" and connects and not needs & ABOUT_TOKENS)):
        return "it needs a token: --token"
    return None


async def _lane(
    plan: Plan, scenarios: Sequence[Scenario], deployment: Deployment, kind: Kind, prefix: str,
    note: Callable[[Result], None], workers: trio.Lock, told: Run,
) -> None:  # fmt: skip
    """What one client program can play of these."""
    mine = [scenario for scenario in scenarios if applies(scenario, kind, plan)]
    left = []
    for scenario in mine:
        reason = why_skipped(scenario, plan, deployment)
        if reason is None:
            left.append(scenario)
        else:
            note(Result(scenario.name, kind.name, "skipped", reason, 0.0))
    if not left:
        return
    missing = ""
    try:
        async with _client(kind) as client:
            told.runtimes[kind.name] = client.runtime
            for number, scenario in enumerate(left):
                note(await _play(scenario, client, deployment, kind.name, f"{prefix}x{number}", workers))
            return
    except* NoRuntimeError as group:
        missing = str(_leaf(group))
    except* (OSError, ValueError, subprocess.SubprocessError) as group:
        missing = f"it doesn't run here ({_leaf(group)})"
    told.runtimes[kind.name] = missing
    done = {result.scenario for result in told.results if result.client == kind.name}
    for scenario in left:
        if scenario.name not in done:
            note(Result(scenario.name, kind.name, "skipped", missing, 0.0))


def _leaf(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


@asynccontextmanager
async def _turn(workers: trio.Lock, scenario: Scenario) -> AsyncIterator[None]:
    if "workers" not in scenario.needs:
        yield
        return
    async with workers:
        yield


async def _play(
    scenario: Scenario, client: Client, deployment: Deployment, kind: str, prefix: str, workers: trio.Lock
) -> Result:
    outcome: Outcome = "passed"
    reason = ""
    async with _turn(workers, scenario):
        begun = trio.current_time()
        with trio.move_on_after(SCENARIO_LIMIT + 20 * deployment.target.timeout) as limit:
            async with trio.open_nursery() as nursery:
                play = Play(scenario, client, deployment, prefix, nursery)
                try:
                    await play.run()
                # A fault of one scenario's own is its row's result too, and mustn't take the others' rows along.
                except Exception as error:
                    outcome, reason = _verdict(error)
                finally:
                    ms = 1000 * (trio.current_time() - begun)
                    with trio.move_on_after(LEAVE_LIMIT, shield=True):
                        await play.leave()
                nursery.cancel_scope.cancel()
        if limit.cancelled_caught:
            outcome, reason = "failed", "it came to no end"
    transcript = () if outcome == "passed" else tuple(play.transcript)
    return Result(scenario.name, kind, outcome, hidden(reason, deployment.target.token), ms, transcript)


def _verdict(error: Exception) -> tuple[Outcome, str]:
    if isinstance(error, SkipError):
        return "skipped", str(error)
    if isinstance(error, UnmetError):
        return "failed", str(error)
    return "failed", f"the scenario itself broke: {type(error).__name__}: {shown(str(error))}"
