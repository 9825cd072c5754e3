"""The suite against a little gateway: all right where the gateway is, and failing in just the rows where it isn't."""

import pytest
import trio

from compat.deployment import Target
from compat.report import PROTOCOL, Result
from compat.runner import Plan, run
from compat.scenarios import chosen
from tests.little_gateway import LittleGateway, serving


async def played(gateway: LittleGateway, names: list[str], *, kinds: list[str], **keys: str) -> list[Result]:
    async with serving(gateway) as url:
        return await run(Plan(Target(url, timeout=20.0, **keys), chosen(names, []), kinds))


async def test_a_right_gateway_passes_every_row() -> None:
    gateway = LittleGateway()
    results = await played(gateway, [], kinds=["js"])
    assert [(row.scenario, row.client, row.reason) for row in results if row.outcome == "failed"] == []
    assert {(row.scenario, row.client) for row in results} == {
        (row.name, "js" if row.by_client else PROTOCOL) for row in chosen([], [])
    }
    skipped = {row.scenario: row.reason for row in results if row.outcome == "skipped"}
    assert set(skipped) == {"address-base-url", "address-base-url-info"}
    assert all("names a port already" in reason for reason in skipped.values())
    assert gateway.logins == {}
    assert gateway.peers == []


# What is wrong, the rows that must fail with a part of each one's reason, and rows that must pass beside them.
WRONG = [
    pytest.param(
        "asyncio",
        ["no 4009", "feedback echoed", "no auto_login on start", "kick code", "timestamp", "push to all"],
        {
            "discovery-websocket-info": "`timestamp` should be a time in milliseconds",
            "discovery-info": "`timestamp` should be a time in milliseconds",
            "same-client-returns": "got no close with 4009",
            "auto-login-on-start": "got no auto_login",
            "session-feedback": "client 1 shouldn't have got",
            "session-feedback-current": "client 1 shouldn't have got",
            "push-targets": "client 2 shouldn't have got",
            "kick": "closed with 1000 instead of 4010",
        },
        ["register-rejected", "same-id-elsewhere", "auto-login-on-registration", "push-all", "unknown-type"],
        id="wrong-1",
    ),
    pytest.param(
        "js",
        ["bind address", "id alone", "no auto_login", "data wins", "no heartbeat", "no node", "no rejection"],
        {
            "discovery-websocket-info": "`websocket_host` should be a host that can be connected to",
            "discovery-info": "`host` should be a host that can be connected to",
            "register": "`node` is missing",
            "register-rejected": "got no registration_rejected",
            "user-switch": "got no auto_login",
            "same-id-elsewhere": "client 1 ended",
            "heartbeat": "got no heartbeat",
            "auto-login-on-registration": "got no auto_login",
            "push-targets": "got no compat-",
        },
        ["register-anonymous", "same-client-returns", "auto-login-on-start", "kick"],
        id="wrong-2",
    ),
    pytest.param(
        "trio",
        [
            "port as text",
            "no expiry",
            "no logout",
            "not recorded",
            "no current session",
            "no username",
            "no user switch",
        ],
        {
            "discovery-websocket-info": '`websocket_port` should be a port, is "',
            "user-switch": "got no compat-",
            "auto-login-on-registration": "`username` is missing",
            "auto-login-on-start": "`username` is missing",
            "logout-notification": "got no logout_notification",
            "login-expires": "got no logout_notification",
            "session-feedback": "the session should hold the feedback",
            "session-feedback-current": "`session_id` should be",
        },
        ["discovery-info", "bad-json", "heartbeat"],
        id="wrong-3",
    ),
    pytest.param(
        "js",
        ["content type", "error closes", "no greeting", "only msg_id", "echo to one"],
        {
            "discovery-websocket-info": "the content type should be application/json",
            "discovery-info": "the content type should be application/json",
            "unknown-type": "ended",
            "worker-handshake": "no answer to a requester",
            "worker-silent": "no connect",
            "requester-round-trip": "no answer to a requester",
            "user-dialect": "no echo",
        },
        ["bad-json", "requester-bad-input", "requester-no-worker", "envelope-client"],
        id="wrong-4",
    ),
    pytest.param(
        "js",
        ["processed_by"],
        {
            "worker-silent": '`processed_by` should be "w',
            "requester-round-trip": '`processed_by` should be "compat-',
        },
        ["worker-handshake"],
        id="wrong-5",
    ),
]


@pytest.mark.parametrize(("kind", "faults", "failing", "passing"), WRONG)
async def test_a_wrong_gateway_fails_in_the_right_rows(
    kind: str, faults: list[str], failing: dict[str, str], passing: list[str]
) -> None:
    results: list[Result] = []
    gateway = LittleGateway(faults)

    async def play(names: list[str], timeout: float) -> None:
        results.extend(await run(Plan(Target(url, timeout=timeout), chosen(names, []), [kind])))

    by_client = {row.name for row in chosen([], []) if row.by_client}
    protocol = [name for name in (*failing, *passing) if name not in by_client]
    wrong = [name for name in failing if name in by_client]
    right = [name for name in passing if name in by_client]
    async with serving(gateway) as url, trio.open_nursery() as nursery:
        # Side by side, since most failing rows only wait for what doesn't come; what must pass may take its time. The
        # protocol's rows stay together: workers that serve every command would meet the other runs' requests.
        for names, timeout in ((wrong[::2], 5.0), (wrong[1::2], 5.0), (right, 20.0), (protocol, 3.0)):
            if names:
                nursery.start_soon(play, names, timeout)
    reasons = {row.scenario: row.reason for row in results if row.outcome == "failed"}
    assert reasons.keys() == failing.keys(), reasons
    assert {name: reason for name, reason in reasons.items() if failing[name] not in reason} == {}
    assert {row.scenario for row in results if row.outcome == "passed"} == set(passing)


async def test_in_production_a_worker_without_a_secret_is_skipped_with_the_reason() -> None:
    names = ["worker-handshake", "worker-silent", "requester-round-trip", "requester-no-worker"]
    results = await played(LittleGateway(environment="production"), names, kinds=[])
    assert [(row.scenario, row.outcome) for row in results] == [
        ("worker-handshake", "skipped"),
        ("worker-silent", "skipped"),
        ("requester-round-trip", "skipped"),
        ("requester-no-worker", "passed"),
    ]
    assert "give --handshake-key" in results[0].reason
    assert "give --api-key" in results[1].reason


async def test_in_production_the_keys_are_used() -> None:
    names = ["worker-handshake", "worker-silent", "requester-round-trip", "user-dialect"]
    gateway = LittleGateway(environment="production", api_key="k1")
    results = await played(gateway, names, kinds=[], api_key="k1", handshake_key="h1")
    assert [(row.scenario, row.reason) for row in results if row.outcome != "passed"] == []
    assert gateway.secrets == {"Bearer k1", "h1"}
