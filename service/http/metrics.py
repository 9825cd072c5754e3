"""Metrics: what the node counts, and how it is now, in Prometheus' text form.

A registry is made for each answer and thrown away, so any number of gateways can live in one process. Labels
are words of our own (dialects, transports, codes, outcomes), never anything that a peer sent.
"""

from collections.abc import Iterable, Iterator, Mapping
from itertools import accumulate
from typing import Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector

from service.core.counters import LATENCY_BOUNDS, Counters, Histogram
from service.core.counters import Metric as MetricOfCore
from service.core.ports import HttpAnswer

from .answers import NOT_KEPT

_PLAIN: Final = {
    "messages_in": ("messages_received", "Messages received over WebSockets."),
    "bytes_in": ("received_bytes", "Bytes of messages received over WebSockets."),
    "messages_out": ("messages_sent", "Messages sent over WebSockets."),
    "bytes_out": ("sent_bytes", "Bytes of messages sent over WebSockets."),
    "handshakes_refused": ("handshakes_refused", "WebSocket handshakes refused."),
    "handshakes_timed_out": ("handshakes_timed_out", "Connections whose first request or TLS did not come in time."),
    "accept_pauses": ("accept_pauses", "Times that accepting paused, for want of descriptors or memory."),
    "protocol_errors": ("protocol_errors", "Connections that broke the WebSocket protocol."),
    "contained_errors": ("contained_errors", "Errors of single connections that were kept from the rest."),
    "internal_errors": ("internal_errors", "Bugs of the gateway that came up while handling a message or request."),
    "slow_closed": ("slow_connections_closed", "Connections closed because they read too slowly."),
    "mute_closed": ("mute_connections_closed", "Connections closed because they answered no ping."),
    "pushes_dropped": (
        "pushes_dropped",
        "Pushes dropped for want of room; durable ones were told as gaps.",
    ),
    "push_deliveries": ("push_deliveries", "Pushes handed to a connection."),
    "streams_broken": ("streams_broken", "Streams of which events may have been missed; their clients were told."),
    "requests_retried": ("requests_retried", "Requests that were sent to another worker."),
    "http_bytes_in": ("http_received_bytes", "Bytes of the bodies of HTTP requests."),
    "http_bytes_out": ("http_sent_bytes", "Bytes of the bodies of HTTP answers."),
    "late_answers": ("late_answers", "Answers of workers to requests that were over."),
    "answers_mended": ("answers_mended", "Answers of workers with NaN or infinities, which became null."),
    "answers_rejected": ("answers_rejected", "Answers of workers that could not be accepted."),
}
_LABELLED: Final = {
    "connections_opened": ("connections_opened", "Connections accepted.", ("transport",)),
    "connections_closed": ("connections_closed", "Connections that are over, by close code.", ("code",)),
    "refused_by_limit": ("connections_refused", "Connections refused, by the limit that was reached.", ("limit",)),
    "proofs_refused": ("proofs_refused", "Connections that proved nothing, or not enough, by cause.", ("cause",)),
    "refused": ("refused", "Callers, connections and messages refused, by cause.", ("cause",)),
    "background_restarts": ("background_restarts", "Background tasks that failed and were restarted.", ("task",)),
    "faults": ("faults", "Messages and requests refused, by dialect (or http) and error code.", ("dialect", "code")),
    "pushes": ("pushes", "Pushes accepted, by kind of target.", ("target",)),
    "http_requests": (
        "http_requests",
        "HTTP requests answered, by the route's operation (none: no route), method and status.",
        ("route", "method", "status"),
    ),
    "requests": ("requests", "Requests to workers and clients that are over.", ("outcome",)),
    "chat_answers": ("chat_answers", "Conversations answered by this process, by how that ended.", ("ending",)),
    "chat_tokens": ("chat_tokens", "Tokens that these took, as the model's API counts them.", ("kind",)),
}
_HISTOGRAMS: Final = {
    "http_latency": ("http_request_duration_seconds", "From an HTTP request's head to its answer."),
    "request_latency": ("request_latency_seconds", "From a request to its answer."),
    "chat_first_token_latency": (
        "chat_first_token_seconds",
        "From a request for chat to the first text of its answer.",
    ),
    "push_latency": ("push_latency_seconds", "From a push's arrival to its being handed to connections."),
}


def metrics_answer(
    counters: Counters,
    connections: Mapping[tuple[str, str], int],
    live: Iterable[MetricOfCore],
    node: str | None = None,
) -> HttpAnswer:
    """The whole answer. `connections` counts them by dialect and transport; `live` is how everything else is now.
    `node`: a label of every series, where several processes answer on one port; each has counters of its own, which
    would otherwise jump from one asking to the next."""
    registry = CollectorRegistry(auto_describe=False)
    numbers = _Numbers(counters, connections, live)
    registry.register(numbers if node is None else _Labelled(numbers, node))
    return HttpAnswer(200, (("content-type", CONTENT_TYPE_LATEST), NOT_KEPT), generate_latest(registry))


class _Numbers(Collector):
    def __init__(
        self, counters: Counters, connections: Mapping[tuple[str, str], int], live: Iterable[MetricOfCore]
    ) -> None:
        self._counters = counters
        self._connections = connections
        self._live = live

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterator[Metric]:
        gauge = GaugeMetricFamily("portico_connections", "Connections now.", labels=("dialect", "transport"))
        for (dialect, transport), count in self._connections.items():
            gauge.add_metric([dialect, transport], count)
        yield gauge
        yield from map(_family, self._live)
        counters = self._counters
        for attribute, (name, text) in _PLAIN.items():
            yield CounterMetricFamily(f"portico_{name}", text, value=getattr(counters, attribute))
        for attribute, (name, text, labels) in _LABELLED.items():
            family = CounterMetricFamily(f"portico_{name}", text, labels=labels)
            for values, count in getattr(counters, attribute).items():
                family.add_metric([values] if isinstance(values, str) else list(values), count)
            yield family
        for attribute, (name, text) in _HISTOGRAMS.items():
            yield _histogram(f"portico_{name}", text, getattr(counters, attribute))
        for others in counters.others:
            yield from map(_family, others())


class _Labelled(Collector):
    def __init__(self, numbers: _Numbers, node: str) -> None:
        self._numbers = numbers
        self._node = node

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterator[Metric]:
        for family in self._numbers.collect():
            family.samples = [
                sample._replace(labels={"node": self._node, **sample.labels}) for sample in family.samples
            ]
            yield family


def _family(metric: MetricOfCore) -> Metric:
    kind = CounterMetricFamily if metric.counts else GaugeMetricFamily
    return kind(f"portico_{metric.name}", metric.text, value=metric.value)


def _histogram(name: str, text: str, histogram: Histogram) -> Metric:
    bounds = [*map(str, LATENCY_BOUNDS), "+Inf"]
    return HistogramMetricFamily(
        name, text, buckets=list(zip(bounds, accumulate(histogram.buckets), strict=True)), sum_value=histogram.sum
    )
