"""POST /api/notifications, as a back end sees it."""

import json

import httpx
import pytest

from service.http.notifications import MAX_BATCH, WAIT_AFTER

from .stage import house, problem

PATH = "/api/notifications"


@pytest.mark.parametrize(
    ("target", "matched"),
    [
        ({"client_id": "c1"}, 1),
        ({"user_id": "u1"}, 2),
        ({"node_id": "n1"}, 1),
        ({"domain_id": "d1"}, 1),
        ({"cluster_id": "k1"}, 1),
        ({"channel_id": "ch1"}, 1),
        ({"user_id": "u1", "client_id": None}, 2),
        ({"all": True}, 3),
        ({"user_id": "nobody"}, 0),
    ],
)
async def test_an_event_reaches_whoever_the_target_means(target: dict[str, object], matched: int) -> None:
    at = house()
    identity = {"node_id": "n1", "domain_id": "d1", "cluster_id": "k1", "channel_id": "ch1"}
    peers = [
        at.stage.client(client_id="c1", user_id="u1", **identity)[1],
        at.stage.client(client_id="c2", user_id="u1")[1],
        at.stage.client(client_id="c3", user_id="u3")[1],
    ]
    answer = await at.call("POST", PATH, json={"target": target, "type": "cart_updated", "data": {"items": [1, 2]}})
    assert answer.status_code == 202
    receipt = answer.json()
    assert receipt.pop("id")
    assert receipt == {"stream": None, "offset": None, "matched": matched, "queued": matched}
    got = [message for peer in peers for message in peer.take()]
    assert got == [{"type": "cart_updated", "items": [1, 2]}] * matched


async def test_over_a_real_socket() -> None:
    at = house()
    _, peer = at.stage.client(client_id="c1", user_id="u1")
    async with at.serving() as base, httpx.AsyncClient(base_url=base) as caller:
        answer = await caller.post(PATH, json={"target": {"user_id": "u1"}, "type": "hello", "id": "e1"})
        assert (answer.status_code, answer.json()["id"]) == (202, "e1")
        batch = [{"target": {"user_id": "u1"}, "type": "many", "data": {"n": n}} for n in range(500)]
        answer = await caller.post(PATH, json=batch)
        assert answer.status_code == 202
        assert len(answer.json()) == 500
    assert peer.take() == [{"type": "hello"}, *({"type": "many", "n": n} for n in range(500))]


async def test_the_same_id_is_delivered_once_and_gets_the_first_receipt() -> None:
    at = house()
    _, peer = at.stage.client(client_id="c1", user_id="u1")
    event = {"target": {"user_id": "u1"}, "type": "paid", "id": "order-7"}
    first = await at.call("POST", PATH, json=event)
    at.stage.client(client_id="c2", user_id="u1")
    again = await at.call("POST", PATH, json=event)
    assert again.status_code == 202
    assert again.json() == first.json() == {"id": "order-7", "stream": None, "offset": None, "matched": 1, "queued": 1}
    assert len(peer.take()) == 1
    at.stage.pass_time(301)
    later = await at.call("POST", PATH, json=event)
    assert later.json()["matched"] == 2


@pytest.mark.parametrize(
    ("body", "field", "hint"),
    [
        ({"durabel": True}, "durabel", "probably 'durable' is meant."),
        ({"TTL": 5}, "TTL", "known are target, type, data, id, durable, ttl."),
        ({"target": {"userid": "u1"}}, "target.userid", "probably 'user_id' is meant."),
        ({"x" * 100: 1}, "x" * 64 + "…", "known are"),
    ],
)
async def test_a_field_that_is_not_known_is_refused_with_the_likely_name(
    body: dict[str, object], field: str, hint: str
) -> None:
    at = house()
    _, peer = at.stage.client(client_id="c1", user_id="u1")
    event = {"target": {"user_id": "u1"}, "type": "t", **body}
    answer = await at.call("POST", PATH, json=event)
    assert problem(answer) == (400, "bad_field", field)
    assert hint in answer.json()["error"]["message"]
    [item] = (await at.call("POST", PATH, json=[event])).json()
    assert item["error"]["code"] == "bad_field"
    assert peer.take() == []


async def test_null_counts_as_absent() -> None:
    at = house()
    _, peer = at.stage.client(client_id="c1", user_id="u1")
    nulls = {"data": None, "id": None, "durable": None, "ttl": None}
    answer = await at.call("POST", PATH, json={"target": {"user_id": "u1", "all": None}, "type": "t", **nulls})
    assert (answer.status_code, answer.json()["stream"]) == (202, None)
    assert peer.take() == [{"type": "t"}]


GOOD = {"target": {"user_id": "u1"}, "type": "cart_updated", "data": {"a": 1}}


def but(**changes: object) -> bytes:
    return json.dumps({**GOOD, **changes}).encode()


def without(name: str) -> bytes:
    return json.dumps({key: value for key, value in GOOD.items() if key != name}).encode()


BAD_ITEMS = [
    (without("target"), "missing_field", "target"),
    (without("type"), "missing_field", "type"),
    (but(target=None), "missing_field", "target"),
    (but(target="u1"), "bad_field", "target"),
    (but(target={}), "bad_field", "target"),
    (but(target={"group": "g"}), "bad_field", "target.group"),
    (but(target={"user_id": "u1", "client_id": "c1"}), "bad_field", "target"),
    (but(target={"user_id": "u1", "all": True}), "bad_field", "target"),
    (but(target={"user_id": "u1", "all": False}), "bad_field", "target"),
    (but(target={"all": False}), "bad_field", "target"),
    (but(target={"all": 1}), "bad_field", "target.all"),
    (but(target={"user_id": 5}), "bad_field", "target.user_id"),
    (but(target={"user_id": ""}), "bad_field", "target.user_id"),
    (but(target={"user_id": "x" * 257}), "bad_field", "target.user_id"),
    (but(target={"client_id": "x" * 129}), "bad_field", "target.client_id"),
    (but(type=""), "bad_field", "type"),
    (but(type="x" * 129), "bad_field", "type"),
    (but(type=None), "missing_field", "type"),
    (but(type="a\nb"), "bad_field", "type"),
    (but(type="a\u202eb"), "bad_field", "type"),
    (but(data=[1]), "bad_field", "data"),
    (but(data="text"), "bad_field", "data"),
    (but(id=""), "bad_field", "id"),
    (but(id="x" * 129), "bad_field", "id"),
    (but(id=7), "bad_field", "id"),
    (but(ttl=0), "bad_field", "ttl"),
    (but(ttl=-1), "bad_field", "ttl"),
    (but(ttl="1h"), "bad_field", "ttl"),
    (but(ttl=31 * 86_400), "bad_field", "ttl"),
    (but(durable="yes"), "bad_field", "durable"),
    (but(data={"n": 0}).replace(b" 0}", b" 1e999}"), "bad_json", None),
    (but(data={"n": 0}).replace(b" 0}", b" " + b"7" * 400 + b"}"), "bad_json", None),
    (but(type="x").replace(b'"type": "x"', b'"type": "x", "type": "y"'), "bad_json", "type"),
    (but().replace(b'"user_id": "u1"', b'"user_id": "u1", "user_id": "u2"'), "bad_json", "user_id"),
    (but(id="a").replace(b'"id": "a"', b'"id": "a", "id": "b"'), "bad_json", "id"),
    (but().replace(b'"data": ', b'"data": {"a": 1}, "data": '), "bad_json", "data"),
    (b'{"target": {"all": true}, "type": "a", "type": "b"}', "bad_json", "type"),
    (b'{"target": {"all": true}, "type": "a", "typ\\u0065": "b"}', "bad_json", "type"),
    (b'{"target": {"user_id": "a", "user_id": "b"}, "type": "a", "data": {"user_id": "b"}}', "bad_json", "user_id"),
    (b"5", "not_an_object", None),
    (b"null", "not_an_object", None),
]


@pytest.mark.parametrize(("body", "code", "field"), BAD_ITEMS)
async def test_a_bad_event_is_refused_and_nothing_done(body: bytes, code: str, field: str | None) -> None:
    at = house()
    _, peer = at.stage.client(client_id="c1", user_id="u1")
    answer = await at.call("POST", PATH, content=body)
    assert problem(answer) == (503 if code == "unavailable" else 400, code, field)
    assert peer.take() == []
    assert at.stage.gateway.counters.faults["http", code] == 1
    assert not at.stage.gateway.counters.pushes


@pytest.mark.parametrize(("item", "code", "field"), BAD_ITEMS)
async def test_a_bad_item_does_not_hold_up_the_others(item: bytes, code: str, field: str | None) -> None:
    at = house()
    _, peer = at.stage.client(client_id="c1", user_id="u1")
    good = json.dumps(GOOD).encode()
    answer = await at.call("POST", PATH, content=b" [" + good + b"," + item + b"," + good + b"]")
    assert answer.status_code == 202
    first, bad, last = answer.json()
    assert (first["matched"], last["matched"]) == (1, 1)
    assert (bad["error"]["code"], bad["error"]["field"]) == (code, field)
    assert len(peer.take()) == 2


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[",
        b'{"target": {"all": true}, "type": "t"}x',
        b'{"target": {"all": true}, "type": "t", "data": {"n": NaN}}',
        b'[{"target": {"all": true}, "type": "t"}, NaN]',
        b'[{"target": {"all": true}, "type": "t"},]',
        b'{"target": {"all": true}, "type": "\xff"}',
        b'[{"target": {"all": true}, "type": "t"}, "\xff"]',
        b'{"target": {"all": true}, "type": "t", "data": {"n": "\\ud800"}}',
        b'{"target": {"all": true}, "type": "t", "data": {"n": ' + b"[" * 10_000 + b"]" * 10_000 + b"}}",
        b"[" * 100_000 + b"]" * 100_000,
    ],
)
async def test_what_is_not_json_is_refused_whole(body: bytes) -> None:
    at = house()
    _, peer = at.stage.client(client_id="c1")
    answer = await at.call("POST", PATH, content=body)
    assert problem(answer) == (400, "bad_json", None)
    assert peer.take() == []


async def test_data_may_have_the_keys_that_events_have() -> None:
    at = house()
    _, peer = at.stage.client(client_id="c1", user_id="u1")
    data = {"target": 1, "data": {}, "id": 2, "user_id": "u1", "ttl": {"user_id": "u1"}}
    event = {"target": {"user_id": "u1"}, "type": "t", "data": data, "ttl": 60}
    for event_id in ({}, {"id": "e1"}):
        assert (await at.call("POST", PATH, json={**event, **event_id})).status_code == 202
    # The target's own text stands in the data too.
    twins = {"target": {"user_id": "u1"}, "type": "t", "data": {"user_id": "u1"}}
    assert (await at.call("POST", PATH, json=twins)).status_code == 202
    assert peer.take() == [{"type": "t", **data}, {"type": "t", **data}, {"type": "t", "user_id": "u1"}]


async def test_an_empty_batch_and_a_batch_too_many() -> None:
    at = house()
    assert (await at.call("POST", PATH, content=b"[]")).json() == []
    answer = await at.call("POST", PATH, content=b"[" + b"1," * MAX_BATCH + b"1]")
    assert problem(answer) == (413, "too_large", None)


async def test_a_batch_keeps_its_order_across_the_others_turns() -> None:
    at = house()
    _, peer = at.stage.client(client_id="c1", user_id="u1")
    many = 3 * WAIT_AFTER + 1
    batch = [{"target": {"user_id": "u1"}, "type": "n", "data": {"n": n}, "id": f"e{n}"} for n in range(many)]
    answer = await at.call("POST", PATH, json=batch)
    assert [receipt["id"] for receipt in answer.json()] == [f"e{n}" for n in range(many)]
    assert [message["n"] for message in peer.take()] == list(range(many))


async def test_the_gateways_own_type_wins_over_the_datas() -> None:
    at = house()
    _, peer = at.stage.client(client_id="c1")
    event = {"target": {"client_id": "c1"}, "type": "real", "data": {"type": "false", "x": 1}}
    await at.call("POST", PATH, json=event)
    assert peer.take() == [{"type": "real", "x": 1}]


async def test_latency_is_measured() -> None:
    at = house()
    await at.call("POST", PATH, json=[GOOD, GOOD])
    assert sum(at.stage.gateway.counters.push_latency.buckets) == 2
