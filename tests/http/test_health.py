"""Health, readiness, totals and metrics."""

import httpx
from prometheus_client.parser import text_string_to_metric_families

from service.core.counters import LATENCY_BOUNDS, Counters, Metric
from tests.fakes import START

from .stage import SessionOwner, house


async def test_health_names_the_node() -> None:
    at = house(node="node-a")
    at.stage.client(client_id="c1")
    answer = await at.call("GET", "/api/health")
    assert (answer.status_code, answer.json()) == (
        200,
        {"status": "ok", "node": "node-a", "environment": "development", "connections": 1, "timestamp": START},
    )


async def test_readiness_follows_what_the_app_says_and_liveness_does_not() -> None:
    at = house()
    assert (await at.call("GET", "/readyz")).json() == {"status": "ok", "reason": None, "warnings": []}
    at.not_ready.append("draining")
    answer = await at.call("GET", "/readyz")
    assert (answer.status_code, answer.json()) == (503, {"status": "unavailable", "reason": "draining", "warnings": []})
    assert (await at.call("GET", "/livez")).status_code == 200
    assert (await at.call("GET", "/api/health")).status_code == 200
    assert (await metrics(at))["portico_ready", ()] == 0


async def test_who_is_connected() -> None:
    at = house(node="node-a")
    at.stage.client(client_id="c1", user_id="u1")
    at.stage.client(client_id="c2", user_id="u1")
    at.stage.worker("w1")
    at.stage.connect("/requester")
    session, _ = at.stage.connect("/ws/u9")
    at.stage.connect("/ws")
    at.stage.close(session)
    answer = await at.call("GET", "/api/c-client/status")
    assert answer.json() == {
        "status": "ok",
        "total": 5,
        "registered": 3,
        "workers": 1,
        "by_dialect": {"c_client": 2, "envelope": 1, "requester": 1, "undecided": 1},
        "by_transport": {"memory": 5},
        "by_node": {"node-a": 5},
        "advice": None,
        "timestamp": START,
        "success": True,
        "connected_clients": {
            "summary": {"total_connections": 5, "total_clients": 3, "total_users": 1, "total_nodes": 0}
        },
    }
    assert "u1" not in answer.text


Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


async def metrics(at: SessionOwner) -> Samples:
    answer = await at.call("GET", "/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=")
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


async def test_metrics_say_what_happened() -> None:
    at = house()
    at.stage.client(client_id="c1", user_id="u1")
    worker, _ = at.stage.worker("w1")
    await at.call("POST", "/api/notifications", json={"target": {"user_id": "u1"}, "type": "t"})
    await at.call("POST", "/api/notifications", json={"target": {"user_id": "u1"}, "type": ""})
    await at.call("POST", "/api/logins", json={"user_id": "u2"})
    at.stage.say(worker, b"{")
    at.stage.gateway.dispatcher.remove_worker(worker.worker)  # type: ignore[arg-type]
    await at.call("POST", "/api/requests", json={"command": "echo"})
    at.stage.close(worker, 1001)
    at.stage.gateway.counters.messages_in += 7
    found = await metrics(at)
    expected = {
        ("portico_connections", (("dialect", "c_client"), ("transport", "memory"))): 1,
        ("portico_connections_opened_total", (("transport", "memory"),)): 2,
        ("portico_connections_closed_total", (("code", "1001"),)): 1,
        ("portico_registered", ()): 1,
        ("portico_workers", ()): 0,
        ("portico_logins", ()): 1,
        ("portico_ready", ()): 1,
        ("portico_requests_queued", ()): 0,
        ("portico_requests_outstanding", ()): 0,
        ("portico_requests_sent_on", ()): 0,
        ("portico_requests_taken_in", ()): 0,
        ("portico_messages_received_total", ()): 7,
        ("portico_pushes_total", (("target", "user_id"),)): 2,
        ("portico_push_deliveries_total", ()): 1,
        ("portico_requests_total", (("outcome", "no_workers"),)): 1,
        ("portico_faults_total", (("code", "bad_json"), ("dialect", "envelope"))): 1,
        ("portico_faults_total", (("code", "bad_field"), ("dialect", "http"))): 1,
        ("portico_push_latency_seconds_count", ()): 1,
    }
    assert {name: found.get(name) for name in expected} == expected


async def test_histograms_are_cumulative_and_complete() -> None:
    at = house()
    for seconds in (0.0005, 0.004, 0.004, 60.0):
        at.stage.gateway.counters.request_latency.observe(seconds)
    found = await metrics(at)
    name = "portico_request_latency_seconds"
    buckets = {labels[0][1]: value for (sample, labels), value in found.items() if sample == f"{name}_bucket"}
    assert len(buckets) == len(LATENCY_BOUNDS) + 1
    assert (buckets["0.001"], buckets["0.005"], buckets["30.0"], buckets["+Inf"]) == (1, 3, 3, 4)
    assert (found[f"{name}_count", ()], found[f"{name}_sum", ()]) == (4, 60.0085)


async def test_every_counter_is_shown() -> None:
    at = house()
    counters = at.stage.gateway.counters
    for attribute in vars(Counters()):
        counter = getattr(counters, attribute)
        if isinstance(counter, int):
            setattr(counters, attribute, 4711)
        elif attribute.endswith("latency"):
            counter.observe(4711)
        elif attribute == "others":
            counter.append(lambda: [Metric("of_another_part", "One.", 4711)])
        else:
            counter["a", "b" if attribute == "faults" else ""] = 4711
            if attribute != "faults":
                counter.clear()
                counter["a"] = 4711
    found = await metrics(at)
    shown = [name for (name, _), value in found.items() if value == 4711]
    assert len(shown) == len(vars(counters))


async def test_two_gateways_in_a_process_count_for_themselves() -> None:
    one, other = house(), house()
    one.stage.client(client_id="c1")
    assert (await metrics(one))["portico_registered", ()] == 1
    assert (await metrics(other))["portico_registered", ()] == 0


async def test_over_a_real_socket() -> None:
    at = house()
    async with at.serving() as base, httpx.AsyncClient(base_url=base) as caller:
        for path in ("/api/health", "/api/c-client/status", "/livez", "/readyz", "/metrics"):
            assert (await caller.get(path)).status_code == 200
