"""What the app and the transports count, as /metrics shows it."""

from service.app import Node
from service.http.metrics import metrics_answer
from service.settings import Settings

from .stage import house


def text_of(node: Node) -> str:
    parts = node.parts
    return metrics_answer(parts.counters, parts.connections(), parts.live()).body.decode()


def test_a_restarted_background_task_is_counted_by_its_name() -> None:
    node = Node(Settings.load({}))
    node.reports.on_task_failed("cleanup", RuntimeError("a bug"))
    node.gateway.counters.accept_pauses += 1
    text = text_of(node)
    assert 'portico_background_restarts_total{task="cleanup"} 1.0' in text
    assert "portico_accept_pauses_total 1.0" in text


def test_a_process_alone_tells_what_its_history_takes() -> None:
    text = text_of(Node(Settings.load({})))
    assert "portico_history_bytes 0.0" in text


def test_what_goes_through_redis_is_counted_and_what_waits_there_is_told() -> None:
    node = Node(Settings.load({"REDIS_URL": "redis://127.0.0.1:1"}))
    text = text_of(node)
    for line in (
        "redis_connected 0.0",
        "redis_channels_subscribed 0.0",
        "redis_commands_pending_bytes 0.0",
        "redis_commands_refused_total 0.0",
        "stream_gaps_total 0.0",
        "nodes 1.0",
        "ingress_dead_total 0.0",
    ):
        assert f"\nportico_{line}" in text


def test_what_the_core_counts_beside_its_counters_is_shown_too() -> None:
    at = house()
    gateway = at.stage.gateway
    gateway.cluster_messages.on_message("another", "a kind of the next version", b"")
    gateway.cluster_messages.survey.incomplete += 2
    gateway.registration.takeover.refused += 3
    parts = at.parts
    text = metrics_answer(parts.counters, parts.connections(), parts.live()).body.decode()
    for line in ("node_messages_unknown_total 1.0", "surveys_incomplete_total 2.0", "user_limit_refused_total 3.0"):
        assert f"\nportico_{line}" in text
