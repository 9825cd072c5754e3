"""Tokens as a run shows them, and in which mode of `PORTICO_AUTH` a deployment is.

Knows how a token is put into a first message or an address, and what its claims say; whether one holds is the
gateway's affair, so no signature is looked at. A token never gets into a certificate: `hidden` takes it out.
"""

import json
from base64 import urlsafe_b64decode
from typing import Any, Final
from urllib.parse import quote

from compat.clients import Client
from compat.pattern import Json

AUTHS: Final = ("off", "optional", "required")
WRONG: Final = "compat-shows-no-token"
FIRST: Final = ("c_client_register", "connect", "handshake")


def claims(token: str) -> Json:
    """What a token says; raises ValueError, with a sentence, where a run could not use it."""
    try:
        body = token.split(".")[1]
        said = json.loads(urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    except (IndexError, ValueError) as error:
        raise ValueError("it is no JWT") from error
    if not isinstance(said, dict) or said.get("role") != "admin":
        raise ValueError("its role must be admin: a run is many users, workers and requesters")
    if not isinstance(said.get("exp"), int | float):
        raise ValueError("it needs an end (exp)")
    return said


def names(token: str | None) -> Json:
    """The names that scenarios have for a token and its claims."""
    if token is None:
        return {}
    return {"token": token, "token_expires": claims(token)["exp"]}


def with_token(message: Any, token: str) -> Any:
    """A first message with the token in it, unless it has one; any other message as it is."""
    if not isinstance(message, dict) or message.get("type") not in FIRST:
        return message
    if message["type"] == "c_client_register":
        return message if message.get("token") else {**message, "token": token}
    said = message.get("data")
    if not isinstance(said, dict) or said.get("token"):
        return message
    return {**message, "data": {**said, "token": token}}


def at(url: str, token: str) -> str:
    """An address that shows the token."""
    return f"{url}{'&' if '?' in url else '?'}token={quote(token)}"


def hidden(text: str, token: str | None) -> str:
    """A text without the token."""
    return text if token is None else text.replace(token, "<token>")


async def auth_of(client: Client, url: str, name: str, timeout: float) -> str:
    """Which of AUTHS the deployment is in, by what it says to two registrations.

    The one shows no token, the other a wrong one, which the gateway counts as one guess. `off` where it says neither
    yes nor no: the rows that it breaks with that say more than a run that ends here.
    """
    if await _is_rejected(client, url, f"{name}-none", {}, timeout):
        return "required"
    return "optional" if await _is_rejected(client, url, f"{name}-wrong", {"token": WRONG}, timeout) else "off"


async def _is_rejected(client: Client, url: str, on: str, shown: Json, timeout: float) -> bool:
    await client.tell({"do": "connect", "on": on, "url": url})
    line = client.line(on)
    said: Json | None = None
    for _ in range(2):
        said = await line.take(timeout)
    if said is not None and said["event"] == "open":
        await client.tell({
            "do": "send", "on": on, "text": json.dumps({"type": "c_client_register", "client_id": on, **shown}),
        })  # fmt: skip
        said = await line.take(timeout)
        await client.tell({"do": "close", "on": on})
    try:
        answer = json.loads(said["text"]) if said is not None and said["event"] == "text" else {}
    except ValueError:
        answer = {}
    kind = answer.get("type") if isinstance(answer, dict) else None
    return kind == "registration_rejected" and answer.get("reason") == "unauthorized"
