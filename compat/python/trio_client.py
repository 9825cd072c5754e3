"""A C-Client as existing programs have it: trio, trio-websocket, and discovery by httpx on trio.

Knows the C-Client dialect only as JSON that it writes out itself; shares no code with the gateway. It makes three
attempts in all to discover, connect and register; after that it stays until it is told to go or is closed.
"""

import json
import sys
from typing import Any

import httpx
import trio
import trio_websocket as tw

from compat.address import NoAddressError, build, whereabouts
from compat.python.command_line import Json, Options, follow_commands, parse, report


class Retry(Exception):
    """This attempt came to nothing."""


class GiveUp(Exception):
    """No attempt will do better."""


async def discover(options: Options) -> str | None:
    """Ask where the WebSocket is and build its address; None after `--discover-only`; raises Retry."""
    path = "/api/b-client/info" if options.discovery == "info" else "/api/b-client/websocket-info"
    try:
        async with httpx.AsyncClient(timeout=5) as http:
            response = await http.get(options.base_url + path)
        answer: Any = response.json()
    except (httpx.HTTPError, ValueError) as error:
        raise Retry(f"GET {path} failed: {error or type(error).__name__}") from error
    kind = response.headers.get("content-type", "")
    report("discovered", form=options.discovery, status=response.status_code, content_type=kind, answer=answer)
    if response.status_code != 200:
        raise Retry(f"GET {path} answered {response.status_code}")
    if options.discover_only:
        return None
    try:
        address = build(options.address, options.base_url, whereabouts(options.discovery, answer))
    except NoAddressError as error:
        raise Retry(str(error)) from error
    report("address", way=options.address, url=address)
    return address


class CClient:
    """One client on one connection: `register`, then `stay`."""

    def __init__(self, socket: tw.WebSocketConnection, identity: dict[str, str | None]) -> None:
        self.socket = socket
        self.identity = identity
        self.session_id: str | None = None
        self.interval = 25.0

    async def send(self, message: Json) -> None:
        await self.socket.send_message(json.dumps(message))

    async def receive(self) -> Json:
        """Receive, report and act on one message; raises GiveUp on a rejection."""
        raw = await self.socket.get_message()
        if isinstance(raw, bytes):
            report("binary", length=len(raw))
            return {}
        try:
            message = json.loads(raw)
        except ValueError:
            report("text", text=raw)
            return {}
        report("message", message=message)
        if not isinstance(message, dict):
            return {}
        match message.get("type"):
            case "registration_success":
                self.interval = message.get("heartbeat_interval") or self.interval
            case "registration_rejected":
                said, reason = message.get("message"), message.get("reason")
                raise GiveUp(f"The gateway rejected the registration: {said} ({reason}).")
            case "auto_login":
                self.session_id = message.get("session_id")
            case "logout_notification" if message.get("session_id") == self.session_id:
                self.session_id = None
        return message

    async def register(self) -> None:
        """Register and wait for the answer; raises Retry when none comes in 10 s, GiveUp when rejected."""
        try:
            with trio.fail_after(10):
                await self.send({"type": "c_client_register", **self.identity})
                while (await self.receive()).get("type") != "registration_success":
                    continue
        except trio.TooSlowError as error:
            raise Retry("the gateway didn't answer the registration within 10 s") from error
        except tw.ConnectionClosed as error:
            raise Retry("the gateway closed the connection before registration") from error

    async def beat(self) -> None:
        while True:
            await trio.sleep(self.interval)
            await self.send({"type": "heartbeat"})

    async def obey(self, commands: trio.MemoryReceiveChannel[Json | None]) -> None:
        """Do what stdin says, until it ends or says `close`."""
        async for command in commands:
            if command is None:
                return
            match command:
                case {"do": "register", "identity": identity}:
                    self.identity.update(identity)
                    await self.send({"type": "c_client_register", **self.identity})
                case {"do": "heartbeat"}:
                    await self.send({"type": "heartbeat"})
                case {"do": "feedback", "success": success, "message": said}:
                    feedback: Json = {"type": "session_feedback", "success": success, "message": said}
                    if command.get("with_session_id", True):
                        feedback["session_id"] = self.session_id
                    await self.send(feedback)
                case {"do": "send", "text": text}:
                    await self.socket.send_message(text)
                case _:
                    return

    async def stay(self, commands: trio.MemoryReceiveChannel[Json | None]) -> None:
        """Live on the registered connection; raises GiveUp when it wasn't this client that ended it."""
        asked = False
        ended = GiveUp("The gateway dropped the connection without a close.")

        async def until_told(scope: trio.CancelScope) -> None:
            nonlocal asked
            # A send that lost the race with the gateway's close: the receiving side reports that close.
            try:
                await self.obey(commands)
            except tw.ConnectionClosed:
                return
            asked = True
            with trio.move_on_after(5):
                await self.socket.aclose()
            scope.cancel()

        async def beat() -> None:
            try:
                await self.beat()
            except tw.ConnectionClosed:
                return

        async with trio.open_nursery() as nursery:
            nursery.start_soon(until_told, nursery.cancel_scope)
            nursery.start_soon(beat)
            try:
                while True:
                    await self.receive()
            except tw.ConnectionClosed as error:
                code, reason = (error.reason.code, error.reason.reason) if error.reason else (1006, None)
                report("closed", code=code, reason=reason)
                ended = GiveUp(f"The gateway closed the connection with {code} ({reason}).")
            except GiveUp as error:
                ended = error
            if not asked:
                nursery.cancel_scope.cancel()
        if not asked:
            raise ended


async def get_in(options: Options, nursery: trio.Nursery) -> CClient | None:
    """Discover, connect and register once; None after `--discover-only`; raises Retry or GiveUp."""
    address = await discover(options)
    if address is None:
        return None
    try:
        with trio.fail_after(10):
            socket = await tw.connect_websocket_url(nursery, address)
    except (OSError, ValueError, trio.TooSlowError, tw.HandshakeError) as error:
        raise Retry(f"connecting to {address} failed: {error or type(error).__name__}") from error
    report("open")
    client = CClient(socket, dict(options.identity))
    try:
        await client.register()
    except (Retry, GiveUp):
        with trio.move_on_after(2):
            await socket.aclose()
        raise
    return client


async def live(options: Options, nursery: trio.Nursery) -> None:
    """Three attempts (one more than there are waits), then stay; raises GiveUp."""
    into, commands = trio.open_memory_channel[Json | None](100)
    token = trio.lowlevel.current_trio_token()
    follow_commands(lambda command: token.run_sync_soon(into.send_nowait, command))
    for attempt, wait in enumerate((*options.waits, None), start=1):
        try:
            client = await get_in(options, nursery)
        except Retry as error:
            report("attempt_failed", attempt=attempt, why=str(error), wait_s=wait)
            if wait is None:
                raise GiveUp(f"Gave up after {attempt} attempts: {error}.") from error
            await trio.sleep(wait)
            continue
        if client is not None:
            await client.stay(commands)
        return


async def run(options: Options) -> int:
    """Live from discovery to the end of the connection; returns the exit code."""
    report("started", runtime="trio")
    sentence: str | None = None
    async with trio.open_nursery() as nursery:
        try:
            await live(options, nursery)
        except GiveUp as error:
            sentence = str(error)
        nursery.cancel_scope.cancel()
    if sentence is None:
        return 0
    report("failed", sentence=sentence)
    print(sentence, file=sys.stderr)
    return 1


def main() -> int:
    return trio.run(run, parse("trio_client"))


if __name__ == "__main__":
    raise SystemExit(main())
