"""`portico connect`: a registered client on the terminal, which asks, is asked, and prints what it receives."""

from collections.abc import Iterable
from typing import Any, Final

import click
import trio

from portico.client.backoff import Backoff
from portico.client.envelope import data_of
from portico.client.errors import RequestFailed
from portico.client.events import BadMessage, Complaint, Connected, Connecting, Event
from portico.client.link import LinkOptions
from portico.wire.safe_text import safe_text

from .addressing import address, address_options, find, trusted
from .console.loop import Command, Loop
from .console.terminal import Lines, open_lines
from .envelope_client import EnvelopeClient
from .identity import identity_of, identity_options
from .operation import JsonText
from .outcomes import FAILED, TOKEN, explain, fail, run
from .screen import Screen, json_text

ATTEMPTS: Final = 3
"""Attempts to connect, one after another, before a script gives up."""
PATIENT_ATTEMPTS: Final = 50
"""The same for a person, who sees them and may end them: some twenty minutes."""


@click.command()
@identity_options
@address_options
@click.option("-c", "--command", "given", multiple=True, metavar="LINE",
              help="Run this line, and end; may be given several times.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print answers and what comes in as JSON.")
def connect(
    url: str | None,
    base_url: str | None,
    ca_file: str | None,
    token: str | None,
    given: tuple[str, ...],
    as_json: bool,
    **options: Any,
) -> None:
    """Be a client: register, ask with `request ACTION [JSON]`, and see what comes in.

    \b
    portico connect --user-id u1
    portico connect -c 'request get_client_info'

    It speaks the envelope dialect, so back ends can ask it too (`portico send`): `answer [JSON]` answers the
    oldest question, `refuse TEXT` with an error. It reconnects when the connection
    is lost.

    Exit code 0 after quit or the last line, else as portico console.
    """
    where = address(url, base_url)
    ssl_context = trusted(ca_file)
    identity = identity_of(options)

    async def program() -> int:
        await find(where, ssl_context)
        loop: Loop

        def candidates(before: str) -> Iterable[tuple[str, str]]:
            return loop.candidates(before, lambda _: ())

        async with open_lines("connected> ", candidates, "connect_history", lines=given or None) as (lines, write):
            screen = Screen(as_json=as_json, write=write)
            client = EnvelopeClient(
                **where,
                identity=identity,
                token=token,
                options=LinkOptions(ssl_context=ssl_context),
                on_message=lambda envelope: _show(screen, envelope),
                on_event=lambda event: _tell(screen, event, lines.interactive),
                backoff=Backoff(max_attempts=PATIENT_ATTEMPTS if lines.interactive else ATTEMPTS),
            )
            loop = Loop(screen, _commands(client), {}, secret=TOKEN)
            async with client.running():
                if lines.interactive:
                    screen.say("help lists the commands, quit or Ctrl-D ends it.")
                code = await _until_ended(loop, lines, client)
        if client.why is not None and code < 0:
            fail(*explain(client.why, TOKEN))
        return code

    run(program, secret=TOKEN)


async def _until_ended(loop: Loop, lines: Lines, client: EnvelopeClient) -> int:
    """Run the loop; -1 if the client ended for good before it did."""
    code = -1

    async def work() -> None:
        nonlocal code
        code = await loop.run(lines)
        nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(work)
        await client.ended.wait()
        nursery.cancel_scope.cancel()
    return code


def _commands(client: EnvelopeClient) -> dict[str, Command]:
    @click.command(name="request")
    @click.argument("action", metavar="ACTION")
    @click.argument("params", metavar="[JSON]", type=JsonText(), required=False)
    @click.option("--timeout", type=click.FloatRange(0, 3600, min_open=True), default=30.0, show_default=True,
                  metavar="SECONDS", help="How long to wait for the answer.")  # fmt: skip
    def request(**arguments: Any) -> None:
        """Ask the gateway (get_time, get_client_info, calculate) or a worker."""

    @click.command(name="answer")
    @click.argument("result", metavar="[JSON]", type=JsonText(), required=False)
    def answer(**arguments: Any) -> None:
        """Answer the oldest question."""

    @click.command(name="refuse")
    @click.argument("text", metavar="TEXT", nargs=-1, required=True)
    def refuse(**arguments: Any) -> None:
        """Answer the oldest question with an error."""

    async def ask(screen: Screen, action: str, params: Any, timeout: float) -> int:
        try:
            result = await client.request(action, params, timeout=timeout)
        except RequestFailed as failed:
            if screen.as_json:
                screen.say(json_text({"success": False, "error": failed.error}))
            else:
                screen.complain(f"error: {failed}")
            return FAILED
        screen.answer({"success": True, "result": result}, json_text(result))
        return 0

    async def give(screen: Screen, result: Any = None, text: tuple[str, ...] = ()) -> int:
        call = await client.answer(result, error=" ".join(text) or None)
        screen.complain("nobody has asked anything" if call is None else f"answered {safe_text(call.command)}")
        return FAILED if call is None else 0

    return {"request": Command(request, ask), "answer": Command(answer, give), "refuse": Command(refuse, give)}


def _show(screen: Screen, envelope: dict[str, Any]) -> None:
    """One message that came in."""
    data = data_of(envelope)
    kind = str(envelope.get("type"))
    if kind == "notification":
        text = f"{safe_text(str(data.get('event') or data.get('title')))}  {json_text(data.get('payload'))}"
    elif kind == "request":
        asked = f"{safe_text(str(data.get('action')))}  {json_text(data.get('params'))}"
        text = f"asked: {asked}  (answer JSON, or refuse TEXT)"
    else:
        text = f"{safe_text(kind)}  {json_text(data)}"
    screen.answer(envelope, text)


def _tell(screen: Screen, event: Event, interactive: bool) -> None:
    """What happens to the connection. In a script the usual is not worth a line."""
    usual = isinstance(event, Connected) or (isinstance(event, Connecting) and event.attempt == 1)
    if interactive or not usual or isinstance(event, BadMessage | Complaint):
        screen.complain(str(event))
