"""`portico serve --console`: a gateway and a console to it on one terminal.

The gateway is a process of its own, exactly as without a console; what it writes comes through pipes and is shown above
the prompt, whole lines only. The console is one like any other, over HTTP. So neither can disturb the other.

When the console ends (quit, Ctrl-D, a signal) the gateway is told to, and its last lines are shown; a further Ctrl-C
makes it end at once. When the gateway ends by itself, so does the console. The exit code is the gateway's, or where
that is 0, the console's.
"""

import signal
import socket
import ssl
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

import trio

from portico.client.errors import ClientError
from portico.wire.safe_text import safe_text
from service.settings import Settings

from ..api import Api
from ..outcomes import TERMINATED
from ..screen import Screen
from .command import converse

LONGEST_LINE: Final = 16 << 10
"""Characters of one line of the gateway's that are shown."""
ASK_AGAIN: Final = 0.2
"""Seconds between two questions whether it is there."""
LAST_LINES: Final = 2.0
"""Seconds that its last lines may take after its end."""


def serve_beside(settings: Settings, command: Sequence[str], key: str | None) -> int:
    """Run `command`, which serves a gateway with these settings, and a console to it. Returns the exit code.

    `key`: an API key of the gateway's, if there is one.
    """
    # A bound socket that never listens keeps a free port free until the gateway has bound it too.
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    with socket.socket(family) as kept:
        port = settings.port
        if not port:
            kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            kept.bind((settings.host, 0))
            port = kept.getsockname()[1]
        return trio.run(_run, settings, [*command, "--port", str(port)], port, key)


async def _run(settings: Settings, command: list[str], port: int, key: str | None) -> int:
    secure = None if settings.tls_cert is None else _trusting(settings.tls_cert)
    scheme = "http" if secure is None else "https"
    async with Api(f"{scheme}://{_reachable(settings.host)}:{port}", api_key=key, ssl_context=secure) as api:
        return await _Both(api, command).run()


def _reachable(host: str) -> str:
    """Where who listens on `host` is reached from the same machine."""
    shown = {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"[{shown}]" if ":" in shown else shown


def _trusting(certificate: str) -> ssl.SSLContext:
    # It is the very certificate that our own gateway has, under whatever name.
    context = ssl.create_default_context(cafile=certificate)
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return context


class _Both:
    def __init__(self, api: Api, command: list[str]) -> None:
        self._api = api
        self._command = command
        self._process: trio.Process | None = None
        self._screen = Screen()
        self._talking = trio.CancelScope()
        self._over = trio.Event()

    async def run(self) -> int:
        code = TERMINATED
        async with trio.open_nursery() as nursery:
            await nursery.start(self._heed_signals)

            async def start(screen: Screen) -> None:
                self._screen = screen
                await nursery.start(self._serve)
                await self._until_it_answers()

            with self._talking:
                code = await converse(self._api, before=start)
            if self._process is not None:
                self._send(signal.SIGTERM)
                await self._over.wait()
            nursery.cancel_scope.cancel()
        ended = None if self._process is None else self._process.returncode
        return ended or (0 if code == TERMINATED else code)

    async def _serve(self, *, task_status: trio.TaskStatus[None]) -> None:
        # In a group of its own: Ctrl-C reaches it once, through us.
        process = await trio.lowlevel.open_process(
            self._command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            process_group=0,
        )
        self._process = process
        task_status.started()
        try:
            async with trio.open_nursery() as nursery:
                for pipe in (process.stdout, process.stderr):
                    assert pipe is not None
                    nursery.start_soon(self._show, pipe)
                await process.wait()
                nursery.cancel_scope.deadline = trio.current_time() + LAST_LINES
        finally:
            self._over.set()
            self._talking.cancel()
            if process.returncode is None:  # we are cut off: it must not be left
                process.kill()

    async def _show(self, pipe: trio.abc.ReceiveStream) -> None:
        waiting = b""
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            async for part in pipe:
                *lines, waiting = (waiting + part).split(b"\n")
                if len(waiting) > LONGEST_LINE:
                    lines, waiting = [*lines, waiting], b""
                for line in lines:
                    self._screen.complain(safe_text(line.decode("utf-8", "replace"), LONGEST_LINE))

    async def _until_it_answers(self) -> None:
        while True:
            with suppress(ClientError):
                await self._api.status()
                return
            await trio.sleep(ASK_AGAIN)

    def _send(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(number)

    async def _heed_signals(self, *, task_status: trio.TaskStatus[None]) -> None:
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM, signal.SIGHUP) as signals:
            task_status.started()
            async for _ in signals:
                # The first ends the console, and with it the gateway; the second is for the gateway itself.
                if self._talking.cancel_called:
                    self._send(signal.SIGTERM)
                self._talking.cancel()
