"""The audit log: what is told, within bounds, and with nothing secret or harmful in it."""

import json
import os
import select
from io import StringIO
from pathlib import Path
from typing import Any

import httpx
import pytest

from portico.wire.messages import EVERYBODY, Target
from service.assembly import StartError, audit_file
from service.audit import KEYS, REFUSALS, TARGETS, AuditLog, every_line
from service.core.api_keys import ApiKey, digest_of
from service.observe import make_log
from service.settings import Settings
from tests import gateways
from tests.fakes import ManualClock
from tests.http.stage import OUTSIDE, SessionOwner, house

SHOP, DESK = "the-secret-of-the-shop-4711", "the-secret-of-the-desk-0815"


class Lines:
    """An audit log, and what it has written."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self._text = StringIO()
        self.log = AuditLog(every_line(make_log("json", "info", self._text).info), now=self.clock.now)

    def take(self) -> list[dict[str, Any]]:
        """What was written since the last time; every line is the audit log's."""
        lines = [json.loads(line) for line in self._text.getvalue().splitlines()]
        self._text.seek(0)
        self._text.truncate()
        assert all(line.pop("log") == "audit" and line.pop("timestamp") and line.pop("level") for line in lines)
        return lines


def test_pushes_are_told_once_a_second_for_each_key() -> None:
    lines = Lines()
    for number in range(TARGETS + 5):
        lines.log.on_push("shop", Target("user_id", f"u{number}"), 2)
    lines.log.on_push("desk", EVERYBODY, 7)
    lines.log.tick()
    assert lines.take() == []
    lines.clock.move(1)
    lines.log.tick()
    shop, desk = lines.take()
    assert (shop["by"], shop["pushes"], shop["connections"]) == ("shop", TARGETS + 5, 2 * (TARGETS + 5))
    assert shop["targets"].startswith("user_id:u0, user_id:u1, ")
    assert shop["targets"].endswith(f"user_id:u{TARGETS - 1}, …")
    assert desk == {"event": "push", "by": "desk", "pushes": 1, "connections": 7, "targets": "all"}
    lines.log.flush()
    assert lines.take() == []


def test_keys_are_counted_apart_up_to_a_bound() -> None:
    lines = Lines()
    for number in range(KEYS + 50):
        lines.log.on_push(f"key-{number}", EVERYBODY, 1)
    lines.log.flush()
    told = lines.take()
    assert len(told) == KEYS + 1
    assert sum(line["pushes"] for line in told) == KEYS + 50


def test_refusals_come_within_a_rate() -> None:
    lines = Lines()
    for _ in range(REFUSALS + 30):
        lines.log.on_refused("signature", "192.0.2.7")
    assert lines.take() == [{"event": "refused", "cause": "signature", "address": "192.0.2.7"}] * REFUSALS
    lines.clock.move(1)
    lines.log.tick()
    assert lines.take() == [{"event": "more refused", "cause": "signature", "count": 30}]
    lines.log.on_refused("expired", "192.0.2.7")
    assert len(lines.take()) == 1


def test_what_others_have_written_can_do_no_harm_in_a_line() -> None:
    lines = Lines()
    lines.log.on_act("kick", "shop", "192.0.2.7", client_id="c\n{}\u202e\x1b[31m" + "x" * 5000)
    lines.log.on_push("shop", Target("user_id", "u\n" + "y" * 5000), 1)
    lines.log.flush()
    for line in lines.take():
        text = json.dumps(line, ensure_ascii=False)
        assert not set("\n\x1b\u202e") & set(text)
        assert len(text) < 2000


def audited() -> tuple[SessionOwner, Lines]:
    lines = Lines()
    keys = [
        ApiKey("shop", frozenset(("publish", "clients:kick")), digest_of(SHOP)),
        ApiKey("desk", frozenset(("admin",)), digest_of(DESK)),
    ]
    return house(production=True, api_keys=keys, audit=lines.log), lines


async def test_what_back_ends_do_is_told_with_the_name_of_their_key() -> None:
    at, lines = audited()
    session, _ = at.stage.connect("/ws")
    at.stage.ask(session, {"type": "c_client_register", "client_id": "c1", "user_id": "ann"})
    shop, desk = ({"authorization": f"Bearer {key}"} for key in (SHOP, DESK))
    push = {"target": {"user_id": "ann"}, "type": "cart"}
    for body in (push, [push, {"type": "cart"}]):
        await at.call("POST", "/api/notifications", peer=OUTSIDE, headers=shop, json=body)
    await at.call("DELETE", "/api/clients/c1", peer=OUTSIDE, headers=shop)
    await at.call("DELETE", "/api/clients/nobody", peer=OUTSIDE, headers=shop)
    await at.call("POST", "/api/revocations", peer=OUTSIDE, headers=desk, json={"user_id": "ann", "ttl": 60})
    await at.call("GET", "/api/revocations", peer=OUTSIDE, headers=shop)
    await at.call("GET", "/api/clients", peer=OUTSIDE, headers={"authorization": "Bearer wrong"})
    await at.call("GET", "/api/clients", peer=OUTSIDE)
    lines.log.flush()
    address = OUTSIDE[0]
    pushed, kick, revocation, *refused = lines.take()
    assert kick == {"event": "kick", "by": "shop", "address": address, "client_id": "c1", "connections": 1}
    now = at.stage.clock.wall()
    assert revocation == {
        "event": "revocation", "by": "desk", "address": address, "user_id": "ann", "expires_at": now + 60,
    }  # fmt: skip
    causes = ("scope", "api_key", "no_api_key")
    assert refused == [{"event": "refused", "cause": cause, "address": address} for cause in causes]
    assert pushed == {"event": "push", "by": "shop", "pushes": 2, "connections": 2, "targets": "user_id:ann"}
    assert {cause: at.parts.counters.proofs_refused[cause] for cause in causes} == dict.fromkeys(causes, 1)


def test_who_is_refused_by_websocket_is_told_too() -> None:
    at, lines = audited()
    worker, _ = at.stage.connect("/worker", address="192.0.2.7")
    at.stage.say(worker, {"type": "connect", "data": {"role": "worker", "token": "wrong"}})
    assert lines.take() == [{"event": "refused", "cause": "worker_secret", "address": "192.0.2.7"}]


def test_a_pipe_that_nobody_reads_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "audit")
    settings = Settings.load({"PORTICO_AUDIT_LOG": str(tmp_path / "audit")})
    with pytest.raises(StartError, match=r"PORTICO_AUDIT_LOG: .* \(nobody reads this pipe\)"):
        audit_file(settings)
    reader = os.open(tmp_path / "audit", os.O_RDONLY | os.O_NONBLOCK)
    writer = audit_file(settings)
    assert writer is not None
    writer.write("told\n")
    assert select.select([reader], [], [], 30)[0]
    assert os.read(reader, 100) == b"told\n"
    writer.close()
    os.close(reader)


@pytest.mark.live
async def test_a_gateway_writes_it_to_a_file(tmp_path: Path) -> None:
    audit = tmp_path / "audit.log"
    settings = {"ENVIRONMENT": "production", "PORTICO_API_KEYS": SHOP, "PORTICO_AUDIT_LOG": str(audit)}
    with gateways.gateway(tmp_path, settings=settings) as running:
        async with httpx.AsyncClient(base_url=running.base_url, timeout=30) as http:
            await http.get("/api/clients", headers={"authorization": "Bearer a-wrong-key-of-somebody"})
            push = {"target": {"all": True}, "type": "hello"}
            await http.post("/api/notifications", headers={"authorization": f"Bearer {SHOP}"}, json=push)
        gateways.end(running.process)
        told = [json.loads(line) for line in audit.read_text().splitlines()]
        assert [line["event"] for line in told if line["event"] != "more refused"] == ["refused", "push", "drain"]
        assert told[1]["by"] == "key-1"
        assert "a-wrong-key" not in audit.read_text() + running.said()
