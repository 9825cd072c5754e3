"""`publisher.mjs` in a real Node, against a server that fails; it does as the Python publishers do."""

import json
import subprocess
from pathlib import Path

import pytest

from .scripted import Handle, answer, error, half, hang_up, page, receipt, scripted

MODULE = Path(__file__).parents[3] / "portico" / "js" / "publisher.mjs"
PUSH = 'publisher.push({ userId: "u1" }, "cart_updated", { items: 3 }, { durable: true })'


def run(base_url: str, call: str, options: str = "{}") -> dict[str, object]:
    """What `call` gives, as `value`, or as `error` with `code` and `status`."""
    program = f"""
        import {{ Publisher }} from {json.dumps(MODULE.as_uri())};
        try {{
          const publisher = new Publisher({json.dumps(base_url)}, {options});
          console.log(JSON.stringify({{ value: await ({call}) }}));
        }} catch (error) {{
          const {{ message, code, status, name }} = error;
          console.log(JSON.stringify({{ error: message, code, status, kind: name }}));
        }}
        process.exit(0);
    """
    command = ["node", "--input-type=module", "-e", program]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    found: dict[str, object] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize(
    "faults", [[], [hang_up], [half], [error(503, "unavailable")], [error(429, "rate_limited")], [page(502), page(504)]]
)
def test_a_push_is_tried_again_under_one_id(faults: list[Handle]) -> None:
    with scripted(*faults, receipt) as server:
        got = run(server.base_url, PUSH)["value"]
    assert isinstance(got, dict)
    assert {asked.body["id"] for asked in server.asked} == {got["id"]}
    assert len(server.asked) == len(faults) + 1
    body = server.asked[-1].body
    assert (body["target"], body["type"], body["data"], body["durable"]) == (
        {"user_id": "u1"},
        "cart_updated",
        {"items": 3},
        True,
    )


def test_a_batch() -> None:
    pushes = '{ target: { all: true }, type: "a", id: "mine" }, { target: { channelId: "c" }, type: "b" }'
    call = f"publisher.pushMany([{pushes}])"
    with scripted(hang_up, receipt) as server:
        got = run(server.base_url, call)["value"]
    assert isinstance(got, list)
    assert got[0]["id"] == "mine"
    assert [asked.body[1]["id"] for asked in server.asked] == [got[1]["id"]] * 2
    assert server.asked[0].body[1]["target"] == {"channel_id": "c"}


def test_what_must_not_be_done_twice_is_not() -> None:
    for call in (
        'publisher.login("u1", { website_config: {} })',
        'publisher.request("pay", {}, { idempotent: false })',
    ):
        for fault in (hang_up, page(502), page(503)):
            with scripted(fault, answer(200, {"success": True})) as server:
                assert run(server.base_url, call)["code"] == "unreachable"
            assert len(server.asked) == 1


def test_refusals_have_the_gateways_words() -> None:
    with scripted(error(401, "unauthorized")) as server:
        got = run(server.base_url, PUSH, '{ apiKey: "k".repeat(32) }')
    assert got == {
        "error": "It is unauthorized. (unauthorized, HTTP 401)",
        "code": "unauthorized",
        "status": 401,
        "kind": "PorticoError",
    }
    assert server.asked[0].headers["authorization"] == "Bearer " + "k" * 32


def test_no_worker_is_an_answer() -> None:
    said = {"request_id": "r", "success": False, "data": None, "error": "No available workers", "processed_by": None}
    with scripted(answer(503, said)) as server:
        assert run(server.base_url, 'publisher.request("echo")')["error"] == "No available workers"
    assert len(server.asked) == 1


def test_patience_ends() -> None:
    with scripted(error(503, "unavailable")) as server:
        assert run(server.base_url, PUSH, "{ patienceMs: 3000 }")["status"] == 503
    assert len(server.asked) > 1
    assert run("http://127.0.0.1:1", PUSH, "{ patienceMs: 0 }")["code"] == "unreachable"


@pytest.mark.parametrize(
    ("call", "options"),
    [
        (PUSH.replace("{ userId", '{ clientId: "c", userId'), "{}"),
        (PUSH.replace("userId", "user_id"), "{}"),
        ('publisher.kick("")', "{}"),
        (PUSH, "{ patienceMs: 300000 }"),
        (PUSH, '{ apiKey: "a b" }'),
    ],
)
def test_misuse_is_said_before_anything_is_sent(call: str, options: str) -> None:
    with scripted(receipt) as server:
        assert run(server.base_url, call, options)["kind"] in ("TypeError", "RangeError")
    assert server.asked == []


def test_a_server_that_is_no_gateway() -> None:
    with scripted(answer(200, "hello")) as server:
        assert "as no gateway does" in str(run(server.base_url, PUSH)["error"])
