"""An HTTP server that fails as it is told, in a thread, for blocking and asynchronous publishers alike."""

import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

Handle = Callable[[socket.socket, "Asked"], None]


@dataclass
class Asked:
    """One request as it came."""

    method: str
    path: str
    headers: dict[str, str]
    body: Any
    connection: int


@dataclass
class Scripted:
    """What came, and what is done with each request in turn; the last one goes on for ever."""

    base_url: str
    script: list[Handle]
    asked: list[Asked] = field(default_factory=list)


def answer(status: int, body: object, **headers: str) -> Handle:
    """Answer with JSON, and keep the connection."""

    def handle(connection: socket.socket, asked: Asked) -> None:
        raw = json.dumps(body).encode()
        lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
        head = f"HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {len(raw)}\r\n{lines}\r\n"
        connection.sendall(head.encode() + raw)

    return handle


def receipt(connection: socket.socket, asked: Asked) -> None:
    """Answer a push, or a batch, with receipts."""
    if isinstance(asked.body, list):
        answer(202, [{"id": one["id"], "matched": 1, "queued": 1} for one in asked.body])(connection, asked)
    else:
        answer(202, {"id": asked.body["id"], "matched": 1, "queued": 1})(connection, asked)


def hang_up(connection: socket.socket, asked: Asked) -> None:
    """End the connection without an answer."""
    connection.shutdown(socket.SHUT_RDWR)


def half(connection: socket.socket, asked: Asked) -> None:
    """Half an answer, and the end."""
    connection.sendall(b"HTTP/1.1 202 X\r\ncontent-length: 100\r\n\r\n{")
    connection.shutdown(socket.SHUT_RDWR)


def error(status: int, code: str, **headers: str) -> Handle:
    """A refusal as the gateway writes it."""
    return answer(status, {"error": {"code": code, "message": f"It is {code}.", "field": None}}, **headers)


def page(status: int) -> Handle:
    """What a proxy answers by itself where the gateway did not."""

    def handle(connection: socket.socket, asked: Asked) -> None:
        raw = b"<html><h1>Bad Gateway</h1></html>"
        head = f"HTTP/1.1 {status} X\r\ncontent-type: text/html\r\ncontent-length: {len(raw)}\r\n\r\n"
        connection.sendall(head.encode() + raw)

    return handle


@contextmanager
def scripted(*script: Handle, tls: ssl.SSLContext | None = None) -> Iterator[Scripted]:
    """The server, on a port of its own."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        scheme = "http" if tls is None else "https"
        server = Scripted(f"{scheme}://127.0.0.1:{listener.getsockname()[1]}", list(script))
        connections: list[socket.socket] = []

        def accept() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                connections.append(connection)
                arguments = (server, connection, len(connections), tls)
                threading.Thread(target=_serve, args=arguments, daemon=True).start()

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            for connection in connections:
                connection.close()
            thread.join()


def _serve(server: Scripted, connection: socket.socket, number: int, tls: ssl.SSLContext | None) -> None:
    try:
        if tls is not None:
            connection = tls.wrap_socket(connection, server_side=True)
        with connection, connection.makefile("rb") as lines:
            while (asked := _read(lines, number)) is not None:
                server.asked.append(asked)
                handle = server.script.pop(0) if len(server.script) > 1 else server.script[0]
                handle(connection, asked)
    except OSError:
        return


def _read(lines: Any, number: int) -> Asked | None:
    first = lines.readline()
    if not first:
        return None
    method, path, _ = first.decode().split()
    headers: dict[str, str] = {}
    while (line := lines.readline().strip()) != b"":
        name, _, value = line.decode().partition(":")
        headers[name.lower()] = value.strip()
    raw = lines.read(int(headers.get("content-length", 0)))
    return Asked(method, path, headers, json.loads(raw) if raw else None, number)
