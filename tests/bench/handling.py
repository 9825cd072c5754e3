"""`python -m tests.bench.handling`: what a dispatched request costs inside, without sockets, kernel and scheduler; and
what a message costs that is refused, of which strangers send as many as they like.

From the bytes of a requester's frame to those of the worker's, and back: one requester and 8 workers of a whole
gateway, 64 requests under way, messages as in the bench's row `dispatch`. Prints microseconds a request, of the
quickest twentieth of all rounds: that is the same on a busy machine as on a quiet one, so it shows changes of a few
hundredths, which the row can't.
"""

import argparse
import time
from collections.abc import Callable

from websockets.speedups import apply_mask

from portico.wire.codes import CloseCode
from portico.wire.frame import Frame
from service.collector import settle_collector
from service.core.locality import Locality
from service.core.ports import Admission
from service.transports.inbound import Inbound
from tests.fakes import Stage, stage

WORKERS = 8
IN_FLIGHT = 64
SIZE = 128
_MASK = b"\x01\x02\x03\x04"
_REQUEST = b'{"request_id": "r-%010d", "command": "echo", "data": {"message": "%b"}}'
_ANSWER = (
    b'{"type": "response", "msg_id": "%b", "timestamp": 1732000000.123, '
    b'"data": {"request_id": "%b", "success": true, "result": "Echo: hello", "error": null}}'
)


class Line(Inbound):
    """A connection without a socket (a Peer): its frames are given to `cut`, and what is sent to it is kept."""

    transport = "bench"
    address = "192.0.2.1"
    port = None
    has_backlog = False

    def __init__(self, stage_: Stage, admission: Admission) -> None:
        super().__init__(stage_.gateway.counters)
        self.listening = True
        self.sent: list[Frame] = []
        self.receiver = stage_.gateway.opened(self, admission)

    def send(self, frame: Frame) -> None:
        """See Peer."""
        self.sent.append(frame)

    def when_room(self, call: Callable[[], None]) -> None:
        """See Peer: there is always room."""

    def traffic(self) -> tuple[int, int] | None:
        """See Peer: there is no wire."""

    def close(self, code: CloseCode, reason: str = "") -> None:
        """See Peer."""
        raise AssertionError(f"nothing here closes: {code} {reason}")

    def allow_message_size(self, size: int) -> None:
        """See Peer."""

    def lift_rate_limit(self) -> None:
        """See Peer."""

    def kept(self, size: int) -> None:
        """Nothing is bounded here."""

    def take_in(self, data: bytes) -> None:
        """Handle all of it: a pass ends early where it takes too long, as on a busy machine it does."""
        more = self.cut(data)
        while more:
            more = self.more()

    def taken(self) -> list[Frame]:
        """What was sent since."""
        sent, self.sent = self.sent, []
        return sent


def masked(payload: bytes) -> bytes:
    """A client's frame."""
    size = len(payload)
    head = bytes((0x81, 0x80 | size)) if size < 126 else b"\x81\xfe" + size.to_bytes(2, "big")
    return head + _MASK + apply_mask(payload, _MASK)


def answered(frames: list[Frame]) -> bytes:
    """A worker's answers to these requests."""
    out = []
    for frame in frames:
        name = frame.payload.split(b'"msg_id":"', 1)[1].split(b'"', 1)[0]
        out.append(masked(_ANSWER % (name, name)))
    return b"".join(out)


def measure(rounds: int) -> float:
    """Microseconds a request."""
    stage_ = stage()
    workers = [
        Line(stage_, Admission(dialect="envelope", worker=True, locality=Locality.LOCAL)) for _ in range(WORKERS)
    ]
    for worker in workers:
        worker.take_in(masked(b'{"type": "heartbeat"}'))  # it has nothing to say of what it serves
        worker.taken()
    requester = Line(stage_, Admission(dialect="requester"))
    padding = b"x" * (SIZE - len(_REQUEST % (0, b"")))
    times = []
    for number in range(rounds):
        first = number * IN_FLIGHT
        asked = b"".join(masked(_REQUEST % (first + place, padding)) for place in range(IN_FLIGHT))
        start = time.perf_counter()
        requester.take_in(asked)
        taken = time.perf_counter() - start
        answers = [(worker, answered(worker.taken())) for worker in workers]
        start = time.perf_counter()
        for worker, answer in answers:
            worker.take_in(answer)
        times.append(taken + time.perf_counter() - start)
        got = requester.taken()
        if len(got) != IN_FLIGHT or not all(b"Echo: hello" in frame.payload for frame in got):
            raise RuntimeError(f"{len(got)} answers, such as {got[:1]}")
    return _quickest(times)


def measure_refusal(rounds: int) -> float:
    """Microseconds a message that is no JSON."""
    client = Line(stage(), Admission(dialect="c_client"))
    bad = masked(b"x") * IN_FLIGHT
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        client.take_in(bad)
        times.append(time.perf_counter() - start)
        got = client.taken()
        if len(got) != IN_FLIGHT or not all(b"bad_json" in frame.payload for frame in got):
            raise RuntimeError(f"{len(got)} answers, such as {got[:1]}")
    return _quickest(times)


def _quickest(times: list[float]) -> float:
    best = sorted(times)[: max(1, len(times) // 20)]
    return 1e6 * sum(best) / len(best) / IN_FLIGHT


def main(given: list[str] | None = None) -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.handling", description="A dispatched request, inside.")
    parser.add_argument("--rounds", type=int, default=2000, help=f"of {IN_FLIGHT} requests (2000)")
    rounds = parser.parse_args(given).rounds
    print(f"{measure(rounds):.1f} µs a request")
    print(f"{measure_refusal(rounds):.1f} µs a refused message")


if __name__ == "__main__":
    settle_collector()
    main()
