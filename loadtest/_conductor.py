"""Joins the load test to locust: what each of locust's processes is for, and what must be so before a test starts.

Knows locust's events. Only the master (or the only process) judges.
"""

# Locust says that it is typed, but its event hooks are not.
# mypy: untyped-calls-exclude=locust

from __future__ import annotations

import gc
import logging
import signal
import sys
from argparse import Namespace
from collections.abc import Sequence
from typing import Any

import gevent
import psutil
from locust.env import Environment
from locust.event import Events
from locust.runners import MasterRunner, Runner, WorkerRunner

from loadtest import _options, _page, _preflight
from loadtest._campaign import Campaign
from loadtest._crew import Crew, Solo, Worker, Workers
from loadtest._judge import Judge
from loadtest._shapes import SHAPES, most_users
from loadtest._user import Connected

_log = logging.getLogger("loadtest")


def attach(events: Events, users: Sequence[type[Connected]]) -> None:
    """Have `users` and their process take their part in whatever test locust is about to run."""

    def init(environment: Environment, runner: Runner, web_ui: Any = None, **_: object) -> None:
        _take_interrupts()
        _settle_collector()
        campaign = Campaign(environment)
        if isinstance(runner, WorkerRunner):
            # Its master, which it is connected to, may start users before this is through.
            campaign.may_begin.clear()
        Connected.campaign = campaign
        options = environment.parsed_options
        assert options is not None
        _mix(environment, options, users)
        if isinstance(runner, WorkerRunner):
            # One that was started as a worker, by itself or as one of several, knows no host: its master does.
            forked = options.headless and options.processes and environment.host
            if forked and _wrong(campaign, environment, options):
                # The master, which this process was forked from, says why; it would be waited for in vain.
                sys.exit(2)
            Worker(environment, runner, campaign)
            return
        if options.headless and (sentence := _wrong(campaign, environment, options)):
            _give_up(sentence)
        judge = Judge(environment, runner)
        crew: Crew = (
            Workers(environment, runner, campaign.mark, judge.on_report)
            if isinstance(runner, MasterRunner)
            else Solo(campaign, environment, judge.on_report)
        )
        judge.lead(crew)
        if options.shape is not None:
            shape = SHAPES[options.shape]()
            shape.runner, shape.lead = runner, judge
            environment.shape_class = shape
        if web_ui is not None:
            _page.add(web_ui, judge, lambda host: _wrong_there(campaign, environment, options, host))

    events.init.add_listener(init)


def _mix(environment: Environment, options: Namespace, users: Sequence[type[Connected]]) -> None:
    """Give the kinds of users their weights, and leave out those that are not asked for."""
    weights, fixed = _options.parse_kinds(options.mix), _options.parse_kinds(options.fixed)
    named = bool(options.user_classes)
    kinds = {name: kind for kind, name in _options.KINDS.items()}
    tags, excluded = set(options.tags or kinds.values()), set(options.exclude_tags or ())
    for user in users:
        # Whoever names classes on the command line, or picks them on the page, has chosen.
        user.weight = weights.get(user.__name__, 1 if named or options.class_picker else 0)
        user.fixed_count = int(fixed.get(user.__name__, 0))
        if kinds[user.__name__] not in tags - excluded:
            # Locust would leave it without a task, and then start it.
            user.weight = user.fixed_count = 0
        elif options.tags:
            user.weight = user.weight or 1
    chosen = [user for user in environment.user_classes if user.weight or user.fixed_count]
    environment.user_classes[:] = chosen or environment.user_classes


def _take_interrupts() -> None:
    """Have Ctrl-C interrupt the main greenlet, where locust ends the test.

    By itself it interrupts whichever greenlet happens to run, so now and then it would end one connection.
    """
    main = gevent.getcurrent()
    gevent.signal_handler(signal.SIGINT, lambda: gevent.kill(main, KeyboardInterrupt))


def _settle_collector() -> None:
    """Full collections look at every object with the world standing still: a stall of this process's own making."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 100)


def _wrong(campaign: Campaign, environment: Environment, options: Namespace) -> str | None:
    """Why no test can be started; None if one can."""
    if sentence := _wrong_there(campaign, environment, options, environment.host):
        return sentence
    users = most_users(options.shape, options.stairs, options.num_users)
    distributed = bool(options.master or options.worker) and not options.processes
    return _preflight.wrong_with_room(
        environment.host or "",
        users,
        int(options.processes or (options.expect_workers if distributed else 1)),
        machines=distributed,
    )


def _wrong_there(campaign: Campaign, environment: Environment, options: Namespace, host: str | None) -> str | None:
    """Why no test can be started against that host; None if one can. One that is too busy to answer is such a host."""
    reactor, timeout = campaign.reactor, options.step_timeout
    if sentence := _preflight.wrong_with_host(reactor, host, timeout):
        return sentence
    assert host is not None
    pushes = options.push_rate or options.broadcast_rate or options.durable_rate or options.batch_rate
    if pushes and (sentence := _preflight.wrong_with_key(reactor, host, options.api_key, timeout)):
        return sentence
    doors = [user.door(options) for user in environment.user_classes if issubclass(user, Connected)]
    return _preflight.wrong_with_doors(reactor, host, doors, campaign.name_of(0), timeout)


def _give_up(sentence: str) -> None:
    """End with exit code 2 and a sentence."""
    print(f"locust: error: {sentence}", file=sys.stderr)
    # The processes of --processes have begun nothing yet. Locust asks them to end by a signal that they may miss
    # while they start, and then they look for their master for minutes.
    for child in psutil.Process().children():
        child.kill()
    sys.exit(2)
