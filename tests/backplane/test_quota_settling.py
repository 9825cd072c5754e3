"""Settling quotas: everything that is due goes, in batches, and a Redis that is away is said once."""

from collections.abc import Sequence

import pytest

from service.backplane import quota_settling
from service.backplane.quota_settling import QuotaSettling
from service.core.connections.session import Session
from service.core.quotas import Quota, Quotas, Share, Who
from service.redis.faults import Unreachable
from tests.fakes import ManualClock, stage


class Log:
    """Keeps what is said; all that is needed of a log."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def info(self, event: str, **fields: object) -> None:
        self.said.append(event)

    warning = info


class Scene:
    """A node's quotas. `told` are the batches that went out; `away` has them fail; `totals` is what all others have."""

    def __init__(self, *quotas: Quota) -> None:
        self.quotas = Quotas(quotas, ManualClock().now)
        self.told: list[list[Share]] = []
        self.closed: list[Session] = []
        self.away = False
        self.totals = 0.0
        self.log = Log()
        self.settling = QuotaSettling(self.quotas, self.settle, self.closed.append, self.log)  # type: ignore[arg-type]

    async def settle(self, shares: Sequence[Share]) -> list[float]:
        if self.away:
            raise Unreachable("Redis is away")
        self.told.append(list(shares))
        return [self.totals] * len(shares)

    @property
    def alone(self) -> int:
        (value,) = [one.value for one in self.settling.metrics() if one.name == "quotas_alone"]
        return int(value)


async def test_all_that_is_due_goes_in_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quota_settling, "BATCH", 2)
    at = Scene(Quota("messages", "user", 10))
    for number in range(5):
        at.quotas.take("messages", Who(user=f"u{number}"))
    await at.settling.settle()
    assert [len(batch) for batch in at.told] == [2, 2, 1]
    assert {share.name for batch in at.told for share in batch} == {f"u{number}" for number in range(5)}
    await at.settling.settle()
    assert len(at.told) == 3, "nothing has changed"


async def test_while_redis_is_away_nothing_is_forgotten_and_it_is_said_once() -> None:
    at = Scene(Quota("messages", "user", 10))
    at.quotas.take("messages", Who(user="ann"), 3)
    at.away = True
    await at.settling.settle()
    await at.settling.settle()
    assert (at.alone, at.log.said) == (1, ["quotas are kept by each node alone, since Redis is away"])
    at.away = False
    await at.settling.settle()
    assert [share.used for share in at.told[0]] == [3]
    assert (at.alone, at.log.said[1:]) == (0, ["quotas hold over all nodes again"])


async def test_connections_that_others_have_turn_the_newest_away() -> None:
    at = Scene(Quota("connections", "user", 2))
    ann = Who(user="ann")
    sessions = [stage().connect()[0] for _ in range(2)]
    assert [at.quotas.opened(session, ann) for session in sessions] == [True, True]
    at.totals = 1
    await at.settling.settle()
    assert at.closed == sessions[1:]


async def test_one_that_is_alone_settles_with_itself() -> None:
    quotas = Quotas([Quota("messages", "user", 1)], ManualClock().now)
    for _ in range(2):
        assert not quotas.take("messages", Who(user="ann"))
    await QuotaSettling(quotas, None, lambda _: None, Log()).settle()  # type: ignore[arg-type]
    assert quotas.take("messages", Who(user="ann")), "what it has taken is still owed"
    assert not quotas.alone
