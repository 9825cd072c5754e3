"""What the app and the transports count, as /metrics shows it."""

from service.app import Node
from service.http.metrics import metrics_answer
from service.settings import Settings


def test_a_restarted_background_task_is_counted_by_its_name() -> None:
    node = Node(Settings.load({}))
    node._task_failed("cleanup", RuntimeError("a bug"))
    node.gateway.counters.accept_pauses += 1
    text = metrics_answer(node.gateway, {}, ready=True).body.decode()
    assert 'portico_background_restarts_total{task="cleanup"} 1.0' in text
    assert "portico_accept_pauses_total 1.0" in text
