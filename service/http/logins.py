"""Logins: back ends start, look up and end login sessions. Source: HTTP API reference, "Login sessions"."""

from typing import Final

import msgspec
from msgspec import Raw

from portico.wire import strict_json
from portico.wire.codes import ErrorCode
from portico.wire.faults import PeerFault
from portico.wire.messages import check_name
from service.core.gateway import Gateway
from service.core.ports import HttpAnswer
from service.core.push.login_store import Login
from service.core.push.logins import Ending
from service.core.push.publications import DAY

from . import body
from .answers import json_answer
from .asking import Asking, Handler
from .forms import EndedLogin, NewLogin
from .waiting import answer_of

DEFAULT_TTL: Final = DAY
MAX_LOGIN: Final = 256 << 10
"""Bytes that the body may have: it is kept for as long as the session lasts."""

_new = msgspec.json.Decoder(NewLogin)
_object = msgspec.json.Decoder(dict[str, Raw])
_KEYS: Final = strict_json.fields_of(NewLogin)
_OWN: Final = frozenset(NewLogin.__struct_fields__)
_REASONS: Final[dict[str, Ending]] = {"logout": "logout", "revoked": "revoked"}


def view(login: Login) -> dict[str, object]:
    """A session as it is answered: what it was made with, then the gateway's own fields, which win."""
    return {
        **login.extra,
        "session_id": login.session_id,
        "user_id": login.user_id,
        "username": login.username,
        "session_data": login.session_data,
        "created_at": login.created_at,
        "expires_at": login.expires_at,
        "feedback": login.feedback,
    }


def _not_found() -> PeerFault:
    return PeerFault(ErrorCode.NOT_FOUND, "There is no active login session of this id.", field="session_id")


def logins_room(gateway: Gateway) -> dict[str, Handler]:
    """The handlers of this room, by operation."""
    logins = gateway.logins

    async def start(asking: Asking) -> HttpAnswer:
        asking.check_query()
        payload = await asking.read(MAX_LOGIN)
        new = body.decode(_new, payload, _KEYS)
        check_name(new.user_id, "user_id")
        check_name(new.username, "username")
        extra = {name: value.copy() for name, value in strict_json.decode(_object, payload).items() if name not in _OWN}
        data = body.given(new.session_data)
        ttl = DEFAULT_TTL if new.ttl is None else new.ttl
        login: Login = await answer_of(lambda done: logins.start(new.user_id, new.username, data, ttl, extra, done))
        return json_answer(201, view(login), [("location", f"/api/logins/{login.session_id}")])

    async def of_user(asking: Asking) -> HttpAnswer:
        asking.check_query("user_id")
        user_id = asking.query.get("user_id")
        if not user_id:
            raise PeerFault(ErrorCode.MISSING_FIELD, "Say whose sessions: /api/logins?user_id=…", field="user_id")
        found: list[Login] = await answer_of(lambda done: logins.of_user(user_id, done))
        return json_answer(200, {"logins": [view(login) for login in found]})

    async def get(asking: Asking) -> HttpAnswer:
        asking.check_query()
        login: Login | None = await answer_of(lambda done: logins.get(asking.parameters["session_id"], done))
        if login is None:
            raise _not_found()
        return json_answer(200, view(login))

    async def end(asking: Asking) -> HttpAnswer:
        asking.check_query("reason")
        reason = _REASONS.get(asking.query.get("reason", "logout"))
        if reason is None:
            raise PeerFault(ErrorCode.BAD_FIELD, "The reason must be logout or revoked.", field="reason")
        login: Login | None = await answer_of(lambda done: logins.end(asking.parameters["session_id"], reason, done))
        if login is None:
            raise _not_found()
        return json_answer(200, EndedLogin(login.session_id, login.user_id, reason))

    return {"startLogin": start, "listLogins": of_user, "getLogin": get, "endLogin": end}
