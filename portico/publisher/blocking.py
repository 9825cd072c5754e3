"""Publisher: for programs that block, such as Flask, Django and Celery.

Safe to use from several threads, and to make before a server forks: each process gets connections of its own.
"""

import os
import ssl
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Final, Self, TypeVar

import httpx

from . import calls
from .answers import Came, Receipt, Refused
from .calls import ApiCall, Attempts, Push, Target

T = TypeVar("T")


class Publisher:
    """A back end's way to the gateway: pushes, logins, requests, kicks.

    `base_url`: the gateway's HTTP address. `api_key`: one of its `PORTICO_API_KEYS`. `timeout`: seconds that an answer
    may take, beyond what a call itself waits for. `patience`: seconds from the first try within which a call that
    failed is tried again; 0 for never, 240 at most. `ssl_context`: which certificates to trust over https (None: those
    that the system trusts). Raises BadAddress, or ValueError for a key that no header can hold.

    Connections are kept alive and shared. `close` it, or use it in a `with`, when it is no longer needed.

    Every call may raise Refused, with the gateway's words, if nothing was done; Unavailable, which is a Refused, if the
    gateway can't do it now and `patience` is over; Unreachable or GaveUp if no answer came, so that it may have been
    done; Unsendable for a value that JSON can't hold. These are ClientErrors. ValueError is for arguments that are
    wrong in themselves, such as two targets. Source: the HTTP API reference.
    """

    def __init__(
        self,
        base_url: str = "http://localhost:8000",
        *,
        api_key: str | None = None,
        timeout: float = 10.0,
        patience: float = 30.0,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        self._base_url: Final = calls.base_address(base_url)
        self._headers: Final = calls.headers_for(api_key)
        self._timeout: Final = timeout
        self._patience: Final = calls.checked_patience(patience)
        self._ssl_context: Final = ssl_context
        self._http: httpx.Client | None = None
        self._process = 0
        self._lock = threading.Lock()

    def push(
        self,
        type: str,
        data: Mapping[str, object] | None = None,
        *,
        client_id: str | None = None,
        user_id: str | None = None,
        node_id: str | None = None,
        domain_id: str | None = None,
        cluster_id: str | None = None,
        channel_id: str | None = None,
        all: bool = False,
        durable: bool = False,
        ttl: float | None = None,
        id: str | None = None,
    ) -> Receipt:
        """Push one event to the connections of one target.

        Name exactly one of `client_id`, `user_id`, `node_id`, `domain_id`, `cluster_id`, `channel_id`, or `all`.
        `type`: 1 to 128 characters. `data`: the event's other fields; with it a push has at most 16 MiB of JSON.
        `durable`: a client that is away now gets it when it comes back, within `ttl` seconds (up to 30 days; None: as
        long as the gateway keeps events). `id`: up to 128 characters; of two pushes with the same one within 5 minutes
        only the first is delivered, and both get its receipt (None: one is made). Safe to repeat with an `id` of
        yours.
        """
        target = Target(client_id, user_id, node_id, domain_id, cluster_id, channel_id, all)
        return self._call(calls.push(Push(target, type, data, durable, ttl, id)))

    def push_many(self, pushes: Sequence[Push]) -> list[Receipt | Refused]:
        """Push up to 10,000 events, and 16 MiB of JSON, in one call. Returns a receipt for each, in their order.

        The refusal of one push stands in the place of its receipt; the others are delivered. Raises what `push` does
        where the call as a whole fails, and ValueError for more than 10,000.
        """
        return self._call(calls.push_many(calls.named(pushes)))

    def login(
        self,
        user_id: str,
        *,
        username: str | None = None,
        session_data: object = None,
        ttl: float | None = None,
        **more: object,
    ) -> dict[str, Any]:
        """Start a login: the user's clients, those of now and those that register later, get `auto_login`.

        `session_data`: any JSON, for the clients; `more`: further fields of `auto_login`. `ttl`: seconds until it ends
        by itself, up to 30 days (None: a day). Returns the login; `logout` wants its `session_id`. Sent again only if
        it never reached the gateway, since there could be two otherwise.
        """
        fields = {"username": username, "session_data": session_data, "ttl": ttl, **more}
        return self._call(calls.login(user_id, fields))

    def logout(self, session_id: str, *, reason: str = "logout") -> bool:
        """End a login; the user's clients are told the `reason`, `logout` or `revoked`. False if there is no such
        login, or it has ended."""
        return self._call(calls.logout(session_id, reason))

    def logins(self, user_id: str) -> list[dict[str, Any]]:
        """A user's active logins, oldest first."""
        return self._call(calls.logins(user_id))

    def request(
        self,
        command: str,
        data: object = None,
        *,
        timeout: float | None = None,
        affinity: str | None = None,
        idempotent: bool = True,
    ) -> Any:
        """Have a worker carry out a command on `data` (any JSON, up to 1 MiB), and return the data of its answer.

        `timeout`: seconds over all attempts and waiting, above 0 and up to the gateway's `PORTICO_MAX_REQUEST_TIMEOUT`
        (None: its `PORTICO_WORKER_TIMEOUT`, 30). `affinity`: requests with the same key go to the same worker while it
        lives. `idempotent` False: the request is never given to a second worker, nor sent again after a broken
        connection. Raises RequestFailed for an error answer, or its subclass for the cause: NoWorkers, WorkersBusy,
        WorkerLost, RequestTimeout.
        """
        return self._call(calls.request(command, data, timeout, affinity, idempotent))

    def ask_client(self, client_id: str, action: str, params: object = None, *, timeout: float | None = None) -> Any:
        """Ask one connected client, and return the data of its answer. `timeout` as for `request`.

        Sent again only if it never reached the gateway. Raises RequestFailed as `request` does, and Refused (404) if
        the client is not connected.
        """
        return self._call(calls.ask_client(client_id, action, params, timeout))

    def kick(self, client_id: str) -> int:
        """Close all of a client's connections, on every node, with 4010, which tells it to stay away. Returns how many
        there were; 0 if it is not connected."""
        return self._call(calls.kick(client_id))

    def clients(self, **filters: str | None) -> Iterator[dict[str, Any]]:
        """Who is connected, page by page; `filters` are the API's: `user_id`, `channel_id`, `role`, …"""
        offset: int | None = 0
        while offset is not None:
            page = self._call(calls.clients(filters, calls.PAGE, offset))
            yield from page["clients"]
            offset = page["next_offset"]

    def workers(self) -> list[dict[str, Any]]:
        """The workers, and how they are doing."""
        return self._call(calls.workers())

    def close(self) -> None:
        """Close the connections. A later call makes new ones."""
        with self._lock:
            http, self._http = self._http, None
        if http is not None and self._process == os.getpid():
            http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _client(self) -> httpx.Client:
        # A process that was forked must not write to its parent's connections, nor close them.
        with self._lock:
            if self._http is None or self._process != os.getpid():
                verify = calls.trusted(self._base_url, self._ssl_context)
                self._http = httpx.Client(headers=self._headers, verify=verify, trust_env=False)
                self._process = os.getpid()
            return self._http

    def _call(self, call: ApiCall[T]) -> T:
        attempts = Attempts(call, self._patience)
        began = time.monotonic()
        while True:
            try:
                answer = self._client().request(
                    call.method, self._base_url + call.path, content=call.body, timeout=self._timeout + call.timeout
                )
                came = Came(answer.status_code, answer.content, answer.headers.get("retry-after"))
                delay = attempts.after_answer(came, time.monotonic() - began)
                if delay is None:
                    return call.read(came)
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                delay = attempts.after_failure(not isinstance(error, calls.BEFORE_SENDING), time.monotonic() - began)
                if delay is None:
                    raise calls.unreachable(self._base_url, error, attempts.count) from error
            time.sleep(delay)
