"""Real HTTP servers on loopback that answer as a test says: what back ends are, and what they do wrong."""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Asked:
    """One request that came."""

    path: str
    headers: Mapping[str, str]
    body: bytes


@dataclass
class Answer:
    """What is answered. `endless`: its body never ends; `hangs`: nothing comes; `raw`: these bytes instead."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    endless: bool = False
    hangs: bool = False
    raw: bytes | None = None


class BackEnd:
    """A server that is up. `asked` has the requests in their order."""

    def __init__(self, answer: Callable[[Asked], Answer]) -> None:
        self.asked: list[Asked] = []
        self._came = threading.Condition()
        self._over = threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                asked = Asked(self.path, headers, body)
                with outer._came:
                    outer.asked.append(asked)
                    outer._came.notify_all()
                self.reply(answer(asked))

            def reply(self, what: Answer) -> None:
                with suppress(OSError):
                    if what.hangs:
                        outer._over.wait(60)
                        self.close_connection = True
                        return
                    if what.raw is not None:
                        self.wfile.write(what.raw)
                        self.close_connection = True
                        return
                    self.send_response(what.status)
                    for name, value in what.headers.items():
                        self.send_header(name, value)
                    if what.endless:
                        self.end_headers()
                        while not outer._over.is_set():
                            self.wfile.write(b"x" * 4096)
                    if what.status != 204:
                        self.send_header("content-length", str(len(what.body)))
                    self.end_headers()
                    self.wfile.write(what.body)

            def log_message(self, *_: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: Any) -> None:
                pass  # whoever asked has hung up

        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})

    def wait_for(self, count: int, timeout: float = 30.0) -> list[Asked]:
        """The requests, once there are so many. AssertionError where they don't come."""
        with self._came:
            came = self._came.wait_for(lambda: len(self.asked) >= count, timeout)
            assert came, f"{len(self.asked)} requests came, not {count}"
            return list(self.asked)

    def start(self) -> None:
        """Serve."""
        self._thread.start()

    def stop(self) -> None:
        """Stop serving, and let go who waits."""
        self._over.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@contextmanager
def back_end(answer: Callable[[Asked], Answer]) -> Iterator[BackEnd]:
    """A server that answers so while the block runs."""
    server = BackEnd(answer)
    server.start()
    try:
        yield server
    finally:
        server.stop()
