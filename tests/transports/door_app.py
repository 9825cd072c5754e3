"""An app for `hypercorn -k trio tests.transports.door_app:app`: contained, drained, and talkative.

What happens is appended to the file in DOOR_APP_DIARY, one line each, so that a test can see what ran in a
process whose exit code proves nothing.
"""

import os
import sys
from pathlib import Path

import trio

from portico.wire.codes import CloseCode
from service.transports.door import Door
from service.transports.front_door import install, install_drain

from .asgi_harness import make_app
from .script import Counts, ScriptGate

diary = Path(os.environ["DOOR_APP_DIARY"])


def note(line: str) -> None:
    """One line in the diary. Short appends don't mix."""
    with diary.open("a") as file:
        file.write(f"{line}\n")


def log(event: str, /, **fields: object) -> None:
    """To standard error, for a test that failed, and to the diary."""
    line = f"log {event} {fields}"
    print(line, file=sys.stderr, flush=True)
    note(line)


gate = ScriptGate()
counts = Counts()
app = make_app(gate, counts, log)
door = Door(counts=counts, log=log)


@app.while_serving
async def lifespan():  # type: ignore[no-untyped-def]  # Quart's own type for it fits no async generator
    note("startup")
    yield
    note("shutdown")


async def drain() -> None:
    """Close everybody, and wait for them, ≤ 2 s."""
    note("drain")
    for recorder in gate.recorders:
        recorder.peer.close(CloseCode.RESTARTING, "retry_within_ms=1000")
    with trio.move_on_after(2):
        for recorder in gate.recorders:
            await recorder.over.wait()
    note("drained")


assert install(app, door)
assert install_drain(app, door, drain)
