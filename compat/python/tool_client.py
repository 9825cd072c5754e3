"""Command-line tools as clients: `wscat` or `websocat`, as the arguments say, one process of it for each connection.

A message is a line to them, in and out. Neither asks over HTTP, so discovery is by `urllib`. Which code a connection
was closed with only wscat tells. Shares no code with the gateway.
"""

import os
import pty
import queue
import re
import subprocess
import sys
import threading
import tty
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Final

from compat.python.program import Json, commands, discovery, found, received, refused, report

TERMINAL: Final = re.compile(rb"\x1b\[\d*[A-Za-z]")
"""How wscat moves about on a terminal."""
running: dict[str, "subprocess.Popen[bytes]"] = {}


def discover(command: Json) -> str | None:
    on = command["on"]
    try:
        with urllib.request.urlopen(discovery(command), timeout=10) as response:
            return found(command, 200, response.headers.get("content-type", ""), response.read().decode())
    except urllib.error.HTTPError as error:
        return found(command, error.code, "", error.read().decode(errors="replace"))
    except OSError as error:
        refused(on, error)
        return None


def lines(descriptor: int) -> Iterator[bytes]:
    """What a tool says, line by line, until it is gone."""
    rest: list[bytes] = []
    while True:
        try:
            data = os.read(descriptor, 1 << 20)
        except OSError:  # so ends a terminal
            return
        if not data:
            return
        *whole, last = data.split(b"\n")
        for line in whole:
            yield b"".join([*rest, line])
            rest = []
        rest.append(last)


class Wscat:
    """On a terminal, as it tells the rest only there: that it is connected, and what became of that."""

    def __init__(self, on: str, tool: list[str], command: Json, url: str) -> None:
        self._on = on
        self._terminal, its = pty.openpty()
        tty.setraw(its)
        words = [*tool, "--no-color", "--no-check", "--connect", url]
        words += [word for name, value in command.get("headers", {}).items() for word in ("-H", f"{name}: {value}")]
        words += [word for name in command.get("protocols", ()) for word in ("--subprotocol", name)]
        running[on] = self.process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=its, stderr=its)
        os.close(its)

    def follow(self) -> None:
        """Report what it says until it is gone."""
        opened, code, reason, said = False, 1006, "", ""
        for line in lines(self._terminal):
            # What is typed is shown too, behind the prompt, and ends otherwise.
            text = TERMINAL.sub(b"", line).rpartition(b"\r")[2].decode(errors="replace")
            if text.startswith("> "):
                text = text.removeprefix("> ")
            said = text or said
            if text.startswith("Connected "):
                opened = True
                report("open", self._on, protocol="")
            elif text.startswith("< "):
                received(self._on, text.removeprefix("< "))
            elif (closed := re.match(r'Disconnected \(code: (\d+), reason: "(.*)"\)', text)) is not None:
                code, reason = int(closed[1]), closed[2]
        os.close(self._terminal)
        status = re.search(r"Unexpected server response: (\d+)", said)
        if opened:
            report("closed", self._on, code=code, reason=reason)
        else:
            refused(self._on, OSError(said), int(status[1]) if status else None)


class Websocat:
    """By pipes; what it says of the connection itself is on its standard error."""

    def __init__(self, on: str, tool: list[str], command: Json, url: str) -> None:
        self._on = on
        words = [*tool, "-v", "--text", "--exit-on-eof", "--buffer-size", str(64 << 20)]
        for name, value in command.get("headers", {}).items():
            words += ["--origin", value] if name == "origin" else ["-H", f"{name}: {value}"]
        if command.get("protocols"):
            words += ["--protocol", ", ".join(command["protocols"])]
        running[on] = self.process = subprocess.Popen(
            [*words, url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        self._opened = threading.Event()
        self._said = ""

    def follow(self) -> None:
        """Report what it says until it is gone."""
        watcher = threading.Thread(target=self._watch)
        watcher.start()
        assert self.process.stdout is not None
        for line in lines(self.process.stdout.fileno()):
            self._opened.wait()
            received(self._on, line.decode(errors="replace"))
        watcher.join()
        status = re.search(r"unexpected status code \((\d+)", self._said)
        if self._opened.is_set():
            report("closed", self._on, code=1006, reason="")
        else:
            refused(self._on, OSError(self._said), int(status[1]) if status else None)

    def _watch(self) -> None:
        assert self.process.stderr is not None
        for line in lines(self.process.stderr.fileno()):
            text = line.decode(errors="replace")
            if "Connected to ws" in text:
                report("open", self._on, protocol="")
                self._opened.set()
            elif text.startswith("websocat: WebSocketError"):
                self._said = text


TOOLS: Final[dict[str, type[Wscat | Websocat]]] = {"wscat": Wscat, "websocat": Websocat}


def live(kind: str, tool: list[str], command: Json) -> None:
    on = command["on"]
    try:
        url = command.get("url") or discover(command)
    except (ValueError, KeyError) as error:
        refused(on, error)
        return
    if url is not None:
        report("address", on, url=url)
        one = TOOLS[kind](on, tool, command, url)
        one.follow()
        one.process.kill()
        one.process.wait()


def obey(kind: str, tool: list[str], command: Json) -> None:
    process = running.get(command["on"])
    if command["do"] == "discover":
        threading.Thread(target=discover, args=(command,), daemon=True).start()
    elif command["do"] in ("arrive", "connect"):
        threading.Thread(target=live, args=(kind, tool, command), daemon=True).start()
    elif process is not None and process.stdin is not None:
        try:
            if command["do"] == "send":
                process.stdin.write(command["text"].encode() + b"\n")
                process.stdin.flush()
            else:
                process.stdin.close()  # which closes the connection
        except (OSError, ValueError):
            return  # it is gone, and whoever reads says so


def main() -> None:
    kind, tool = sys.argv[1], sys.argv[2:]
    told: queue.Queue[Json | None] = queue.Queue()
    commands(told.put)
    version = subprocess.run([*tool, "--version"], capture_output=True, check=True).stdout.decode().strip()
    report("started", runtime=f"{kind} {version.removeprefix(kind).strip()}")
    while (command := told.get()) is not None:
        obey(kind, tool, command)
    for process in running.values():
        process.kill()


if __name__ == "__main__":
    main()
