"""A C-Client as existing programs have it: asyncio, the `websockets` client, and discovery by a blocking GET.

Knows the C-Client dialect only as JSON that it writes out itself; shares no code with the gateway. It makes three
attempts in all to discover, connect and register; after that it stays until it is told to go or is closed.
"""

import asyncio
import json
import sys
import urllib.error
import urllib.request
from http.client import HTTPException

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, WebSocketException

from compat.address import NoAddressError, build, whereabouts
from compat.python.command_line import Json, Options, follow_commands, parse, report


class AttemptError(Exception):
    """This attempt came to nothing; another may not."""


class FinalError(Exception):
    """No attempt will do better."""


class CClient:
    """One client: `run` is its whole life."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.identity = dict(options.identity)
        self.session_id: str | None = None
        self.heartbeat_interval = 25.0
        self.leaving = False
        self.commands: asyncio.Queue[Json | None] = asyncio.Queue()

    def discover(self) -> str:
        """Ask where the WebSocket is and build its address; raises AttemptError."""
        url = f"{self.options.base_url}/api/b-client/{self.options.discovery}"
        try:
            try:
                response = urllib.request.urlopen(url, timeout=5)
            except urllib.error.HTTPError as refusal:
                response = refusal  # an answer too, and its body says why
            with response:
                status, content_type = response.status, response.headers.get("content-type", "")
                answer = json.loads(response.read())
        except (OSError, HTTPException, ValueError) as error:
            raise AttemptError(f"GET {url} failed: {error or type(error).__name__}") from error
        report("discovered", form=self.options.discovery, status=status, content_type=content_type, answer=answer)
        if status != 200:
            raise AttemptError(f"GET {url} answered {status}")
        if self.options.discover_only:
            return ""
        try:
            address = build(self.options.address, self.options.base_url, whereabouts(self.options.discovery, answer))
        except NoAddressError as error:
            raise AttemptError(str(error)) from error
        report("address", way=self.options.address, url=address)
        return address

    async def register(self, socket: ClientConnection) -> None:
        """Say who this client is; the answer arrives like every other message."""
        await socket.send(json.dumps({"type": "c_client_register", **self.identity}))

    async def connect(self, address: str) -> ClientConnection:
        """Connect, register and wait for the answer; raises AttemptError, or FinalError when rejected."""
        try:
            socket = await connect(address, open_timeout=10)
        except (OSError, ValueError, WebSocketException) as error:
            raise AttemptError(f"connecting to {address} failed: {error or type(error).__name__}") from error
        report("open")
        try:
            async with asyncio.timeout(10):
                await self.register(socket)
                while self.receive(await socket.recv()) != "registration_success":
                    continue
        except TimeoutError as error:
            await socket.close()
            raise AttemptError("the gateway didn't answer the registration within 10 s") from error
        except ConnectionClosed as error:
            raise AttemptError(f"the gateway closed the connection before registration ({error})") from error
        except FinalError:
            await socket.close()
            raise
        return socket

    def receive(self, raw: str | bytes) -> str:
        """Report and act on one message; returns its type. Raises FinalError on a rejection."""
        if isinstance(raw, bytes):
            report("binary", length=len(raw))
            return ""
        try:
            message = json.loads(raw)
        except ValueError:
            report("text", text=raw)
            return ""
        report("message", message=message)
        kind = message.get("type") if isinstance(message, dict) else None
        if kind == "registration_success":
            self.heartbeat_interval = message.get("heartbeat_interval") or self.heartbeat_interval
        elif kind == "registration_rejected":
            reason, said = message.get("reason"), message.get("message")
            raise FinalError(f"The gateway rejected the registration: {said} ({reason}).")
        elif kind == "auto_login":
            self.session_id = message.get("session_id")
        elif kind == "logout_notification" and message.get("session_id") == self.session_id:
            self.session_id = None
        return str(kind)

    async def obey(self, socket: ClientConnection) -> None:
        """Do what stdin says, until it ends or says `close`."""
        while (command := await self.commands.get()) is not None and command["do"] != "close":
            if command["do"] == "register":
                self.identity.update(command["identity"])
                await self.register(socket)
            elif command["do"] == "heartbeat":
                await socket.send(json.dumps({"type": "heartbeat"}))
            elif command["do"] == "feedback":
                said = {"success": command["success"], "message": command["message"]}
                if command.get("with_session_id", True):
                    said["session_id"] = self.session_id
                await socket.send(json.dumps({"type": "session_feedback", **said}))
            elif command["do"] == "send":
                await socket.send(command["text"])
        self.leaving = True
        await socket.close()

    async def beat(self, socket: ClientConnection) -> None:
        """Send a heartbeat at the interval that the gateway asked for."""
        while True:
            await asyncio.sleep(self.heartbeat_interval)
            await socket.send(json.dumps({"type": "heartbeat"}))

    async def stay(self, socket: ClientConnection) -> None:
        """Receive until the connection ends; raises FinalError when it wasn't this client that ended it."""
        tasks = [asyncio.create_task(self.obey(socket)), asyncio.create_task(self.beat(socket))]
        try:
            while True:
                self.receive(await socket.recv())
        except ConnectionClosed:
            code, reason = socket.close_code, socket.close_reason
            report("closed", code=code, reason=reason)
            if not self.leaving:
                raise FinalError(f"The gateway closed the connection with {code} ({reason}).") from None
        finally:
            for task in tasks:
                task.cancel()
            # A send that lost the race with the close failed for the same reason as the receive.
            await asyncio.gather(*tasks, return_exceptions=True)
            await socket.close()

    async def attempt(self) -> ClientConnection | None:
        """Get in, in as many attempts as there are waits and one; None after `--discover-only`."""
        waits = self.options.waits
        for number in range(1, len(waits) + 2):
            try:
                address = self.discover()
                return await self.connect(address) if address else None
            except AttemptError as error:
                wait = waits[number - 1] if number <= len(waits) else None
                report("attempt_failed", attempt=number, why=str(error), wait_s=wait)
                if wait is None:
                    raise FinalError(f"Gave up after {number} attempts: {error}.") from error
                await asyncio.sleep(wait)
        raise AssertionError("the last attempt returns or raises")

    async def run(self) -> int:
        """Live from discovery to the end of the connection; returns the exit code."""
        report("started", runtime="asyncio")
        loop = asyncio.get_running_loop()
        follow_commands(lambda command: loop.call_soon_threadsafe(self.commands.put_nowait, command))
        try:
            socket = await self.attempt()
            if socket is not None:
                await self.stay(socket)
        except FinalError as error:
            report("failed", sentence=str(error))
            print(error, file=sys.stderr)
            return 1
        return 0


def main() -> int:
    return asyncio.run(CClient(parse("asyncio_client")).run())


if __name__ == "__main__":
    raise SystemExit(main())
