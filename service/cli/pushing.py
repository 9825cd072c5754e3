"""What an operator sends: pushes, broadcasts, login sessions, requests to workers and to clients."""

from typing import Any

import click

from portico.client.errors import RequestFailed
from portico.publisher import calls
from portico.publisher.answers import Receipt
from portico.publisher.calls import Push, Target
from portico.wire.safe_text import safe_text

from .operation import Asked, ClientId, JsonText, TargetText, UserId, operation
from .outcomes import FAILED
from .screen import json_text, moment

_TIMEOUT = click.option(
    "--timeout",
    type=click.FloatRange(0, 3600, min_open=True),
    metavar="SECONDS",
    help="How long to wait for the answer.  [default: 30]",
)


@operation("push")
@click.argument("target", type=TargetText())
@click.argument("type", metavar="TYPE")
@click.argument("data", metavar="[JSON]", type=JsonText(needs_object=True), required=False)
@click.option("--durable", is_flag=True, help="Kept, so that those who are away get it when they come back.")
@click.option("--ttl", type=click.FloatRange(0, min_open=True), metavar="SECONDS", help="How long it is kept.")
@click.option("--id", metavar="ID", help="The same id twice within 5 minutes is delivered once.")
async def push(
    asked: Asked,
    target: Target,
    type: str,
    data: dict[str, Any] | None,
    durable: bool,
    ttl: float | None,
    id: str | None,
) -> int:
    """Push an event to a user, a client, a channel, a node, a domain, a cluster, or to all.

    \b
    push user:u1 cart_updated '{"items": 3}'
    push all maintenance '{"at": "22:00"}' --durable

    TYPE is the event's type, JSON its data: an object.
    """
    return await _push(asked, Push(target, type, data, durable, ttl, id))


@operation("broadcast")
@click.argument("message", metavar="MESSAGE", nargs=-1, required=True)
async def broadcast(asked: Asked, message: tuple[str, ...]) -> int:
    """Push a text to everybody: an event of type `broadcast`, with the text as `message` and as `content`."""
    text = " ".join(message)
    return await _push(asked, Push(Target(all=True), "broadcast", {"message": text, "content": text}))


async def _push(asked: Asked, one: Push) -> int:
    receipt: Receipt = await asked.api.call(calls.push(one))
    where = "" if receipt.offset is None else f", offset {receipt.offset} of {safe_text(str(receipt.stream))}"
    asked.screen.answer(
        {
            "id": receipt.id,
            "stream": receipt.stream,
            "offset": receipt.offset,
            "matched": receipt.matched,
            "queued": receipt.queued,
        },
        f"pushed to {receipt.queued} of {receipt.matched} connections (id {safe_text(receipt.id)}{where})",
    )
    return 0


@operation("login")
@click.argument("user_id", type=UserId())
@click.option("--username", metavar="NAME", help="How the user is called.")
@click.option("--session-data", type=JsonText(), metavar="JSON", help="What clients get as session_data.")
@click.option("--more", type=JsonText(needs_object=True), metavar="JSON",
              help="Other fields that auto_login passes on, such as website_config.")  # fmt: skip
@click.option("--ttl", type=click.FloatRange(0, min_open=True), metavar="SECONDS", help="How long it lasts; a day.")
async def login(
    asked: Asked, user_id: str, username: str | None, session_data: Any, more: dict[str, Any] | None, ttl: float | None
) -> int:
    """Start a login session: the user's clients get auto_login, now or when they connect."""
    fields = {**(more or {}), "username": username, "session_data": session_data, "ttl": ttl}
    session = await asked.api.call(calls.login(user_id, fields))
    said = f"session {safe_text(str(session.get('session_id')))}, until {moment(session.get('expires_at'))}"
    asked.screen.answer(session, said)
    return 0


@operation("logout")
@click.argument("session_id", metavar="SESSION_ID")
@click.option("--reason", type=click.Choice(["logout", "revoked"]), default="logout", show_default=True)
async def logout(asked: Asked, session_id: str, reason: str) -> int:
    """End a login session: the user's clients get logout_notification."""
    ended = await asked.api.call(calls.logout(session_id, reason))
    asked.screen.answer({"ended": ended}, "ended" if ended else "there is no such session (any more)")
    return 0 if ended else FAILED


@operation("logins")
@click.argument("user_id", type=UserId())
async def logins(asked: Asked, user_id: str) -> int:
    """A user's login sessions."""
    found = await asked.api.call(calls.logins(user_id))
    shown = [{**one, "from": moment(one.get("created_at")), "until": moment(one.get("expires_at"))} for one in found]
    asked.screen.rows(
        found if asked.screen.as_json else shown,
        {"SESSION": "session_id", "USERNAME": "username", "FROM": "from", "UNTIL": "until"},
        "no login sessions",
    )
    return 0


@operation("send")
@click.argument("client_id", type=ClientId())
@click.argument("action", metavar="ACTION")
@click.argument("params", metavar="[JSON]", type=JsonText(), required=False)
@_TIMEOUT
async def send(asked: Asked, client_id: str, action: str, params: Any, timeout: float | None) -> int:
    """Ask a connected client, and show what it answers."""
    return await _ask(asked, calls.ask_client(client_id, action, params, timeout))


@operation("request")
@click.argument("command", metavar="COMMAND")
@click.argument("data", metavar="[JSON]", type=JsonText(), required=False)
@_TIMEOUT
async def request(asked: Asked, command: str, data: Any, timeout: float | None) -> int:
    """Ask a worker, and show what it answers."""
    return await _ask(asked, calls.request(command, data, timeout, None, True))


async def _ask(asked: Asked, call: calls.ApiCall[Any]) -> int:
    try:
        answer = await asked.api.call(call)
    except RequestFailed as failed:
        said = {"success": False, "error": failed.error, "processed_by": failed.processed_by}
        if asked.screen.as_json:
            asked.screen.say(json_text(said))
        else:
            asked.screen.complain(f"error: {failed}")
        return FAILED
    asked.screen.answer({"success": True, "result": answer}, json_text(answer))
    return 0
