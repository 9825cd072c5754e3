"""The parts of a gateway that HTTP is made over."""

from service.core.quotas import Quota, Quotas
from service.http.parts import parts_of
from tests.core.connections.test_authentication import FakeTokens

from .stage import house


def test_what_it_is_made_over_is_asked_for_when_it_is_needed() -> None:
    at = house()
    at.stage.client(client_id="c1")
    at.stage.worker()
    assert at.parts.connections() == {("c_client", "memory"): 1, ("envelope", "memory"): 1}
    live = {metric.name: metric.value for metric in at.parts.live()}
    assert (live["registered"], live["workers"], live["ready"], live["draining"]) == (2, 1, 1, 0)
    at.not_ready.append("not yet")
    at.stage.gateway.announce_drain(1000)
    live = {metric.name: metric.value for metric in at.parts.live()}
    assert (live["ready"], live["draining"]) == (0, 1)


def test_quotas_of_other_things_are_none_of_https() -> None:
    at = house()
    for kind, expected in (("pushes", True), ("messages", False)):
        quotas = Quotas([Quota(kind, "user", 1)], at.stage.clock.now)
        parts = parts_of(at.stage.gateway, at.places, lambda: None, at.parts.begin_drain, quotas=quotas)
        assert (parts.quotas is quotas) is expected


def test_in_production_anybody_is_anybody_only_without_authentication() -> None:
    for production, mode, anybody in ((True, "off", True), (True, "required", False), (False, "off", False)):
        at = house(production=production, authentication=mode, tokens=None if mode == "off" else FakeTokens())
        parts = parts_of(at.stage.gateway, at.places, lambda: None, at.parts.begin_drain)
        assert parts.anybody is anybody
