"""What is due is sent, however late, and only what the gateway held up is counted against it."""

import time
from argparse import Namespace
from collections.abc import Iterator
from typing import Any

import gevent
import pytest
from gevent.event import Event

from loadtest import _publisher
from loadtest._api import ApiAnswer
from loadtest._campaign import Campaign
from loadtest._publisher import Publisher

RATE = 40.0


class ScriptedApi:
    """The gateway's HTTP side: takes each push after a moment, or when it is let go on; one instance a connection."""

    taken: list[dict[str, Any]]
    answers: Event

    def __init__(self, *_: object) -> None:
        pass

    def close(self) -> None:
        pass

    def push(self, notification: dict[str, Any]) -> ApiAnswer:
        self.taken.append(notification)
        gevent.sleep(0.002)
        self.answers.wait()
        user = notification["target"]["user_id"]
        receipt = {"id": notification["id"], "stream": f"user:{user}", "offset": 1, "matched": 1, "queued": 1}
        return ApiAnswer(receipt, 1, time.time())


@pytest.fixture
def campaign(monkeypatch: pytest.MonkeyPatch) -> Iterator[Campaign]:
    rates = {"push_rate": 0, "broadcast_rate": 0, "batch_rate": 0, "durable_rate": RATE}
    options = Namespace(push_size=3, batch_size=1, api_key=None, step_timeout=10.0, **rates)
    made = Campaign(Namespace(parsed_options=options, host="http://127.0.0.1:9"))
    made.keepers = ["a", "b", "c"]
    monkeypatch.setattr(_publisher, "Api", ScriptedApi)
    ScriptedApi.taken, ScriptedApi.answers = [], Event()
    ScriptedApi.answers.set()
    yield made
    made.schedule.close()
    made.reactor.close()
    assert made.schedule.faults == []


def until_due(pushes: int) -> None:
    """Let the schedule come by, when so many pushes have been due; all of it stands still until then."""
    time.sleep((pushes + 1) / RATE)
    gevent.sleep(0)


def ended(campaign: Campaign, publisher: Publisher, *, answered: bool) -> tuple[int, dict[str, int]]:
    """The end of a test: how many pushes were counted, and the errors of those that failed."""
    campaign.hold()
    while answered and (campaign.waiting or campaign._in_flight):
        gevent.sleep(0.01)
    publisher.give_up()
    publisher.close()
    campaign.finish()
    attempts = campaign.part(0).steps["push"]
    return attempts.times.count, attempts.errors


def test_what_came_due_while_the_load_stood_still_is_sent_and_is_no_failure(campaign: Campaign) -> None:
    publisher = Publisher(campaign)
    until_due(20)
    while campaign.schedule.overdue(time.time()):
        gevent.sleep(0)
    count, errors = ended(campaign, publisher, answered=True)
    assert count >= 20
    assert errors == {}
    assert len(ScriptedApi.taken) == count
    assert campaign.strain.send_late.highest > 10 / RATE * 1e6
    marks = [each["data"]["load"] for each in ScriptedApi.taken]
    for user in campaign.keepers:
        # Each is taken before the next one of its user is sent, in the order in which they were due.
        own = [(sequence, due) for *_, due, _, _, name, sequence in marks if name == user]
        assert [sequence for sequence, _ in own] == list(range(1, len(own) + 1))
        assert own == sorted(own, key=lambda mark: mark[1])


def test_what_the_gateway_held_up_until_the_end_is_its_failure(campaign: Campaign) -> None:
    ScriptedApi.answers.clear()
    publisher = Publisher(campaign)
    until_due(20)
    while campaign.schedule.overdue(time.time()):
        gevent.sleep(0)
    while len(ScriptedApi.taken) < len(campaign.keepers):
        gevent.sleep(0.01)
    count, errors = ended(campaign, publisher, answered=False)
    assert count >= 20
    never = errors.pop("NeverSentError('never sent: earlier pushes took too long')")
    assert never == count - len(campaign.keepers)
    assert errors == {"UnansweredError('unanswered when the test ended')": len(campaign.keepers)}
    assert len(ScriptedApi.taken) == len(campaign.keepers)


def test_a_user_who_has_left_gets_nothing_more_of_what_waited(campaign: Campaign) -> None:
    ScriptedApi.answers.clear()
    publisher = Publisher(campaign)
    until_due(20)
    while len(ScriptedApi.taken) < 3:
        gevent.sleep(0.01)
    campaign.keepers.remove("a")
    ScriptedApi.answers.set()
    count, errors = ended(campaign, publisher, answered=True)
    assert errors == {}
    assert count == len(ScriptedApi.taken) >= 20
    assert [each["target"]["user_id"] for each in ScriptedApi.taken].count("a") == 1
