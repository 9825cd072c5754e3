"""A gateway as small as the load test needs, with faults to order.

Real sockets and threads: an HTTP server for discovery and pushes, a WebSocket server on a port of its own.
Knows no Portico code, so that a fault there cannot hide one in the load test.
"""

from __future__ import annotations

import contextlib
import http.server
import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http import HTTPStatus

from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.sync.server import Server, ServerConnection, serve


@dataclass
class Faults:
    """What the gateway does wrong.

    Attributes:
        heartbeat_delay: seconds before each answer to a heartbeat.
        deaf_to_heartbeats: they are never answered.
        drop_every: this many pushes, then one that reaches nobody; 0 for none.
        repeat_pushes: each push is delivered twice.
        misdirect: pushes to one user go to all.
        push_delay: seconds before each push is accepted.
        refuse_connections: handshakes get 503.
        reject_registrations: clients are rejected.
        cut_after: connections end without a close after this many heartbeats; 0 for never.
        api_key: the key that pushing takes, if any.
    """

    heartbeat_delay: float = 0.0
    deaf_to_heartbeats: bool = False
    drop_every: int = 0
    repeat_pushes: bool = False
    misdirect: bool = False
    push_delay: float = 0.0
    refuse_connections: bool = False
    reject_registrations: bool = False
    cut_after: int = 0
    api_key: str | None = None


@dataclass
class SmallGateway:
    """A running gateway.

    Attributes:
        base_url: where its HTTP is.
        registrations: how many there were.
        pushed: the notifications it accepted, in order.
    """

    faults: Faults
    base_url: str = ""
    websocket_url: str = ""
    registrations: int = 0
    pushed: list[dict[str, object]] = field(default_factory=list)
    clients: dict[ServerConnection, str] = field(default_factory=dict)
    changed: threading.Condition = field(default_factory=threading.Condition)

    def serve_client(self, connection: ServerConnection) -> None:
        """One connection's life."""
        beats = 0
        with contextlib.suppress(ConnectionClosed), contextlib.ExitStack() as stack:
            for text in connection:
                message = json.loads(text)
                if message["type"] == "c_client_register":
                    if self.faults.reject_registrations:
                        reply = {"type": "registration_rejected", "reason": "bad_field", "message": "no"}
                        connection.send(json.dumps(reply))
                        continue
                    with self.changed:
                        self.changed.notify_all()
                        self.registrations += 1
                        self.clients[connection] = message["user_id"]
                    stack.callback(self._forget, connection)
                    connection.send(json.dumps({**message, "type": "registration_success"}))
                elif not self.faults.deaf_to_heartbeats:
                    beats += 1
                    if beats == self.faults.cut_after:
                        connection.close_socket()
                        return
                    time.sleep(self.faults.heartbeat_delay)
                    connection.send(json.dumps({"type": "heartbeat"}))

    def push(self, notification: dict[str, object]) -> None:
        """Deliver to whom it may concern, as the faults allow."""
        with self.changed:
            self.changed.notify_all()
            self.pushed.append(notification)
            clients = dict(self.clients)
            count = len(self.pushed)
        if self.faults.drop_every and count % self.faults.drop_every == 0:
            return
        target, data = notification["target"], notification["data"]
        assert isinstance(target, dict)
        assert isinstance(data, dict)
        text = json.dumps({**data, "type": notification["type"]})
        for connection, user in clients.items():
            if target.get("all") or user == target.get("user_id") or self.faults.misdirect:
                for _ in range(2 if self.faults.repeat_pushes else 1):
                    with contextlib.suppress(ConnectionClosed):
                        connection.send(text)

    def wait_for(self, condition: Callable[[], bool], timeout: float = 60.0) -> None:
        """Wait until something has come in that makes `condition` true. Raises TimeoutError."""
        with self.changed:
            if not self.changed.wait_for(condition, timeout):
                raise TimeoutError("the gateway never saw what it should have")

    def check_handshake(self, connection: ServerConnection, request: Request) -> Response | None:
        """Refuse, or let the handshake go on."""
        if self.faults.refuse_connections:
            return connection.respond(HTTPStatus.SERVICE_UNAVAILABLE, "No.\n")
        return None

    def _forget(self, connection: ServerConnection) -> None:
        with self.changed:
            self.clients.pop(connection, None)


@contextlib.contextmanager
def small_gateway(faults: Faults | None = None) -> Iterator[SmallGateway]:
    """Run one on free ports of the loopback address, until the block is left."""
    gateway = SmallGateway(faults or Faults())

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # A client may keep its connection open, but not for longer than the test lasts.
        timeout = 30

        def do_GET(self) -> None:
            if self.path == "/api/b-client/websocket-info":
                self.answer(200, {"websocket_url": gateway.websocket_url})
            else:
                self.answer(404, {"error": {"code": "not_found"}})

        def do_POST(self) -> None:
            notification = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            key = gateway.faults.api_key
            if key is not None and self.headers["Authorization"] != f"Bearer {key}":
                self.answer(401, {"error": {"code": "unauthorized"}})
                return
            time.sleep(gateway.faults.push_delay)
            gateway.push(notification)
            self.answer(202, {"id": notification["id"]})

        def answer(self, status: int, content: dict[str, object]) -> None:
            body = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    class HttpServer(http.server.ThreadingHTTPServer):
        # Of more clients at once than the backlog holds, some wait a second.
        request_queue_size = 128
        # Left waiting for kept-alive connections, the server would not close.
        block_on_close = False

    with (
        HttpServer(("127.0.0.1", 0), Handler) as http_server,
        serve(
            gateway.serve_client, "127.0.0.1", 0, process_request=gateway.check_handshake, compression=None
        ) as websocket_server,
    ):
        gateway.base_url = f"http://127.0.0.1:{http_server.server_port}"
        gateway.websocket_url = f"ws://127.0.0.1:{_port(websocket_server)}"
        threads = [
            threading.Thread(target=server.serve_forever, daemon=True) for server in (http_server, websocket_server)
        ]
        for thread in threads:
            thread.start()
        try:
            yield gateway
        finally:
            http_server.shutdown()
            websocket_server.shutdown()
            for thread in threads:
                thread.join(10)


def _port(server: Server) -> int:
    port: int = server.socket.getsockname()[1]
    return port
