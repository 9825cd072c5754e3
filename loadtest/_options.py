"""The load test's own command-line options, next to locust's.

Knows names, defaults and what is acceptable. Promises that a value that cannot be used ends locust before
anything starts, with one sentence and exit code 2.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from pathlib import Path

from locust.argument_parser import LocustArgumentParser

from loadtest import _thresholds

DEFAULT_THRESHOLDS = Path(__file__).with_name("thresholds.toml")


def add(parser: LocustArgumentParser) -> None:
    """Add the options to locust's parser."""
    group = parser.add_argument_group("Portico load test options")
    # Locust answers --help before it has seen a locustfile (locustio/locust#2917), so without these.
    group.add_argument("--help-all", action="help", help="Show locust's options and these, and exit.")
    group.add_argument(
        "--thresholds",
        metavar="<filename>",
        type=_thresholds_file,
        default=str(DEFAULT_THRESHOLDS),
        env_var="LOADTEST_THRESHOLDS",
        help="TOML file with what the test must reach. The exit code is 0 if it does, 3 if not. "
        "Defaults to loadtest/thresholds.toml.",
    )
    group.add_argument(
        "--heartbeat-interval",
        metavar="<seconds>",
        type=_number(minimum=0),
        default=5.0,
        env_var="LOADTEST_HEARTBEAT_INTERVAL",
        help="Seconds from one heartbeat of a connection to its next, 0 for none. Defaults to 5.",
    )
    group.add_argument(
        "--push-rate",
        metavar="<per second>",
        type=_number(minimum=0),
        default=5.0,
        env_var="LOADTEST_PUSH_RATE",
        help="Pushes per second to one user each, over all locust processes, 0 for none. Defaults to 5.",
    )
    group.add_argument(
        "--broadcast-rate",
        metavar="<per second>",
        type=_number(minimum=0),
        default=0.2,
        env_var="LOADTEST_BROADCAST_RATE",
        help="Pushes per second to all users, over all locust processes, 0 for none. Defaults to 0.2.",
    )
    group.add_argument(
        "--push-size",
        metavar="<bytes>",
        type=_number(minimum=0, maximum=512 * 1024),
        default=64,
        env_var="LOADTEST_PUSH_SIZE",
        help="Bytes of padding in every push. Defaults to 64.",
    )
    group.add_argument(
        "--step-timeout",
        metavar="<seconds>",
        type=_number(above=0),
        default=10.0,
        env_var="LOADTEST_STEP_TIMEOUT",
        help="Seconds after which a step without an answer has failed. Defaults to 10.",
    )
    group.add_argument(
        "--settle-time",
        metavar="<seconds>",
        type=_number(minimum=0),
        default=5.0,
        env_var="LOADTEST_SETTLE_TIME",
        help="Seconds to wait at the end, at most, for answers and pushes that are still under way. Defaults to 5.",
    )
    group.add_argument(
        "--api-key",
        metavar="<key>",
        default=None,
        env_var="LOADTEST_API_KEY",
        help="Key for POST /api/notifications, where the gateway asks for one. "
        "Better in the environment than on the command line, where others can see it.",
    )
    group.add_argument(
        "--shape",
        choices=["ramp"],
        default=None,
        env_var="LOADTEST_SHAPE",
        help="Shape of the load: 'ramp' goes up to -u in ten equal stages over the first half of -t. "
        "Without this, locust's own -u and -r are all there is.",
    )


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
