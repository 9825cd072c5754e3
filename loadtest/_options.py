"""The load test's own command-line options, next to locust's.

Knows names, defaults and what is acceptable. Promises that a value that cannot be used ends locust before
anything starts, with one sentence and exit code 2.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from locust.argument_parser import LocustArgumentParser

from loadtest import _thresholds
from loadtest._stairs import parse_stairs

DEFAULT_THRESHOLDS = Path(__file__).with_name("thresholds.toml")
SHAPES: Final = ("staircase", "ramp", "soak", "reconnect-storm", "spike")
KINDS: Final = {
    "client": "CClient",
    "listener": "Listener",
    "churner": "Churner",
    "slow": "SlowReader",
    "requester": "Requester",
    "worker": "Worker",
}
"""The kinds of users as `--mix` and `--fixed` name them, and their classes."""
SECRETS: Final = frozenset({"api_key", "token", "worker_key"})
_STAIRS: Final = "100,500,1000,2000,5000,10000"


def add(parser: LocustArgumentParser) -> None:
    """Add the options to locust's parser."""
    group = parser.add_argument_group("Portico load test options")
    # Locust answers --help before it has seen a locustfile (locustio/locust#2917), so without these.
    group.add_argument("--help-all", action="help", help="Show locust's options and these, and exit.")

    def option(name: str, metavar: str, kind: Callable[[str], object], default: object, text: str) -> None:
        variable = "LOADTEST_" + name.removeprefix("--").replace("-", "_").upper()
        group.add_argument(name, metavar=metavar, type=kind, default=default, env_var=variable, help=text)

    option(
        "--thresholds", "<filename>", _thresholds_file, str(DEFAULT_THRESHOLDS),
        "TOML file with what the test must reach. The exit code is 0 if it does, 3 if not, 4 if the load itself was "
        "the bottleneck. Defaults to loadtest/thresholds.toml.",
    )  # fmt: skip
    option("--result", "<filename>", _writable, None, "Write what was found to this file, as JSON.")
    option("--junit", "<filename>", _writable, None, "Write the verdict to this file, as JUnit's XML.")
    _add_rates(option)
    _add_users(option)
    _add_shapes(group, option)
    option("--step-timeout", "<seconds>", _number(above=0), 10.0,
           "Seconds after which a step without an answer has failed. Defaults to 10.")  # fmt: skip
    option("--settle-time", "<seconds>", _number(minimum=0), 5.0,
           "Seconds to wait, at the end and at every stair, for answers and pushes that are still under way, at most. "
           "Defaults to 5.")  # fmt: skip
    option("--api-key", "<key>", str, None,
           "Key for POST /api/notifications, where the gateway asks for one. Better in the environment "
           "(LOADTEST_API_KEY) than on the command line, where others can see it.")  # fmt: skip
    option("--token", "<token>", str, None,
           "Token that every client shows, where the gateway asks for one; it must not name a user. Better in the "
           "environment (LOADTEST_TOKEN).")  # fmt: skip
    option("--worker-key", "<key>", str, None,
           "Secret that workers show, where the gateway asks for one: its handshake key or an API key. "
           "Better in the environment (LOADTEST_WORKER_KEY).")  # fmt: skip
    option("--metrics-url", "<url,…>", str, None,
           "Where the gateway's processes give their metrics, if not at /metrics of --host and of the WebSocket "
           "address. 'none': don't ask.")  # fmt: skip
    group.add_argument("--no-observer", action="store_true", env_var="LOADTEST_NO_OBSERVER",
                       help="Run without the independent observer, a small process whose figures are set beside the "
                       "load's own.")  # fmt: skip


def _add_rates(option: Callable[..., None]) -> None:
    rate = _number(minimum=0)
    option("--heartbeat-interval", "<seconds>", rate, 5.0,
           "Seconds from one heartbeat of a connection to its next, 0 for none. Defaults to 5.")  # fmt: skip
    option("--push-rate", "<per second>", rate, 5.0,
           "Pushes per second to one user each, over all locust processes, 0 for none. Defaults to 5.")  # fmt: skip
    option("--broadcast-rate", "<per second>", rate, 0.2,
           "Pushes per second to all users, over all locust processes, 0 for none. Defaults to 0.2.")  # fmt: skip
    option("--durable-rate", "<per second>", rate, 0.0,
           "Durable pushes per second to one user each: to churners, where there are any, whether they are there or "
           "away. Defaults to 0.")  # fmt: skip
    option("--batch-rate", "<per second>", rate, 0.0,
           "Requests per second that push to many users at once. Defaults to 0.")  # fmt: skip
    option(
        "--batch-size", "<number>", _number(minimum=1, maximum=1000), 50, "Pushes in such a request. Defaults to 50."
    )
    option("--push-size", "<bytes>", _number(minimum=0, maximum=512 * 1024), 64,
           "Bytes of padding in every push. Defaults to 64.")  # fmt: skip


def _add_users(option: Callable[..., None]) -> None:
    names = ", ".join(KINDS)
    option(
        "--mix",
        "<kind=weight,…>",
        _kinds,
        "client=1",
        f"What the users are, by weight, such as client=9,churner=1. Kinds: {names}. Defaults to client=1.",
    )
    option("--fixed", "<kind=number,…>", _kinds, "",
           "How many users of a kind there are among them in any case, such as worker=2,requester=4.")  # fmt: skip
    option("--churn-seconds", "<seconds>", _number(above=0), 30.0,
           "How long a churner stays, on average. Defaults to 30.")  # fmt: skip
    option("--away-seconds", "<seconds>", _number(minimum=0), 2.0,
           "How long a churner is away, on average. Defaults to 2.")  # fmt: skip
    option("--rude-share", "<share>", _number(minimum=0, maximum=1), 0.5,
           "Share of a churner's goings that are without a good-bye. Defaults to 0.5.")  # fmt: skip
    option("--slow-pause", "<seconds>", _number(above=0), 5.0,
           "How long a slow reader reads nothing, before it reads for a moment. Defaults to 5.")  # fmt: skip
    option("--request-rate", "<per second>", _number(minimum=0), 1.0,
           "Requests per second of each requester. Defaults to 1.")  # fmt: skip
    option("--service-time", "<seconds>", _number(minimum=0), 0.0,
           "How long a worker takes for a request. Defaults to 0.")  # fmt: skip
    option("--stream-parts", "<number>", _number(minimum=0, maximum=1000), 0,
           "Partial answers before each answer; 0: requests don't stream. Defaults to 0.")  # fmt: skip


def _add_shapes(group: Any, option: Callable[..., None]) -> None:
    group.add_argument(
        "--shape", choices=SHAPES, default=None, env_var="LOADTEST_SHAPE",
        help="Shape of the load. 'staircase': the numbers of --stairs, up to -u, each held for --hold seconds and "
        "judged; it ends at the first that does not meet the thresholds. 'ramp': up to -u in ten equal stages over "
        "the first half of -t. 'soak': -u, judged every --hold seconds, until -t. 'reconnect-storm': -u, held, then "
        "cut off and back, held again. 'spike': a tenth of -u, held, then -u at once, held, and a tenth again. "
        "Without this, locust's own -u and -r are all there is.",
    )  # fmt: skip
    option("--stairs", "<number,…>", _stairs, _STAIRS, f"The stairs of a staircase. Defaults to {_STAIRS}.")
    option("--hold", "<seconds>", _number(above=0), 30.0,
           "How long a number of users is held before it is judged. Defaults to 30.")  # fmt: skip
    group.add_argument("--keep-climbing", action="store_true", env_var="LOADTEST_KEEP_CLIMBING",
                       help="Go up a staircase to its end, whatever the verdicts are.")  # fmt: skip
    option("--storm-share", "<share>", _number(above=0, maximum=1), 1.0,
           "Share of the clients that a reconnect-storm cuts off. Defaults to 1.")  # fmt: skip
    option("--storm-window", "<seconds>", _number(minimum=0), 5.0,
           "Within how many seconds they come back. Defaults to 5.")  # fmt: skip


def parse_kinds(value: str) -> dict[str, float]:
    """What `--mix` and `--fixed` say, by class. Raises ValueError."""
    found: dict[str, float] = {}
    for item in filter(None, (item.strip() for item in value.split(","))):
        name, equals, number = item.partition("=")
        if name not in KINDS:
            raise ValueError(f"there is no kind {name!r}: those there are, are {', '.join(KINDS)}")
        amount = float(number) if equals else math.nan
        if not (math.isfinite(amount) and amount >= 0):
            raise ValueError(f"{item!r} should be {name}=<number of at least 0>")
        found[KINDS[name]] = amount
    return found


def _stairs(value: str) -> str:
    try:
        parse_stairs(value)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{value!r} is not a list of ascending numbers above 0.") from error
    return value


def _kinds(value: str) -> str:
    try:
        parse_kinds(value)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{error}.") from error
    return value


def _writable(value: str) -> str:
    if not Path(value).absolute().parent.is_dir():
        raise argparse.ArgumentTypeError(f"There is no folder for {value!r}.")
    return value


def _thresholds_file(value: str) -> str:
    # Locust sends the options to its workers as plain values, so the path stays a text and is only checked.
    try:
        _thresholds.load(Path(value))
    except _thresholds.ThresholdsError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return value


def _number(
    *, minimum: float = -math.inf, above: float = -math.inf, maximum: float = math.inf
) -> Callable[[str], float]:
    wanted = f"above {above:g}" if math.isfinite(above) else f"of at least {minimum:g}"
    if math.isfinite(maximum):
        wanted += f" and at most {maximum:g}"

    def parse(value: str) -> float:
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if not (math.isfinite(number) and number >= minimum and number > above and number <= maximum):
            raise argparse.ArgumentTypeError(f"{value!r} is not a number {wanted}.")
        return number

    return parse
