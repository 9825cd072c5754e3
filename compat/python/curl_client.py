"""`curl`: discovery, and how a handshake is answered. One process of it for each.

A curl that speaks WebSocket can't be had everywhere, so the handshake is what scripts do: the headers of an upgrade by
hand. It says whether one gets in, or is refused and how; messages are nothing for it. Shares no code with the gateway.
"""

import base64
import os
import queue
import subprocess
import threading

from compat.python.program import Json, commands, discovery, found, received, refused, report

CURL = ("curl", "--silent", "--show-error", "--http1.1", "--no-buffer")
running: dict[str, "subprocess.Popen[bytes]"] = {}


def discover(command: Json) -> str | None:
    on = command["on"]
    asked = subprocess.run(
        [*CURL, "--max-time", "10", "--write-out", "\n%{http_code} %{content_type}", discovery(command)],
        capture_output=True, check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    if asked.returncode != 0:
        refused(on, OSError(asked.stderr.decode(errors="replace").strip()))
        return None
    text, _, facts = asked.stdout.decode().rpartition("\n")
    status, _, kind = facts.partition(" ")
    return found(command, int(status), kind, text)


def live(command: Json) -> None:
    on = command["on"]
    try:
        url = command.get("url") or discover(command)
    except (ValueError, KeyError) as error:
        refused(on, error)
        return
    if url is None:
        return
    report("address", on, url=url)
    headers = {
        "connection": "Upgrade", "upgrade": "websocket", "sec-websocket-version": "13",
        "sec-websocket-key": base64.b64encode(os.urandom(16)).decode(), **command.get("headers", {}),
    }  # fmt: skip
    shown = [word for pair in headers.items() for word in ("--header", ": ".join(pair))]
    process = subprocess.Popen(
        [*CURL, "--include", "--max-time", "600", *shown, "http" + url.removeprefix("ws")],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0,
    )  # fmt: skip
    running[on] = process
    assert process.stdout is not None
    assert process.stderr is not None
    first = process.stdout.readline().split(b" ")
    if len(first) < 2:
        refused(on, OSError(process.stderr.read().decode(errors="replace").strip()))
    elif first[1] != b"101":
        refused(on, OSError(f"answered with {first[1].decode()}"), int(first[1]))
    else:
        while process.stdout.readline().strip():
            continue
        report("open", on, protocol="")
        while data := os.read(process.stdout.fileno(), 65536):
            received(on, data)
        report("closed", on, code=1006, reason="")
    process.kill()
    process.communicate()


def obey(command: Json) -> None:
    if command["do"] in ("discover", "arrive", "connect"):
        threading.Thread(target=discover if command["do"] == "discover" else live, args=(command,), daemon=True).start()
    elif command["do"] == "close" and command["on"] in running:
        running[command["on"]].terminate()


def main() -> None:
    told: queue.Queue[Json | None] = queue.Queue()
    commands(told.put)
    version = subprocess.run([CURL[0], "--version"], capture_output=True, check=True).stdout.split()[:2]
    report("started", runtime=b" ".join(version).decode())
    while (command := told.get()) is not None:
        obey(command)
    for process in running.values():
        process.kill()


if __name__ == "__main__":
    main()
