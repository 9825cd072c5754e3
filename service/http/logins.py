"""Logins: back ends start, look up and end login sessions. Source: HTTP API reference, "Login sessions"."""

from typing import Final

import msgspec
from msgspec import Raw

from portico.wire import strict_json
from portico.wire.codes import ErrorCode
from portico.wire.faults import PeerFault
from portico.wire.messages import EMPTY_OBJECT, NULL, check_name
from service.core.ports import HttpAnswer
from service.core.push.login_store import Login, LogoutEvent
from service.core.push.logins import Ending, Logins
from service.core.push.publications import DAY
from service.core.reply import Reply

from .answers import json_answer, when_answered
from .forms import EndedLogin, NewLogin, OnLogout
from .request import Answering, HttpHandler, HttpRequest, decode, given

DEFAULT_TTL: Final = DAY
MAX_LOGIN: Final = 256 << 10
"""Bytes that the body may have: it is kept for as long as the session lasts."""

_new = msgspec.json.Decoder(NewLogin)
_object = msgspec.json.Decoder(dict[str, Raw])
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
        "message": login.message,
        "on_logout": login.on_logout,
    }


def _not_found() -> PeerFault:
    return PeerFault(ErrorCode.NOT_FOUND, "There is no active login session of this id.", field="session_id")


def _on_logout(asked: OnLogout | None) -> LogoutEvent | None:
    """What is to be pushed at the end. Raises PeerFault."""
    if asked is None:
        return None
    check_name(asked.type, "on_logout.type")
    data = given(asked.data)
    if data == NULL:
        data = EMPTY_OBJECT
    elif bytes(data)[:1] != b"{":
        raise PeerFault(
            ErrorCode.BAD_FIELD, "The field 'on_logout.data' must be a JSON object.", field="on_logout.data"
        )
    return LogoutEvent(asked.type, data)


def logins_handlers(logins: Logins) -> dict[str, HttpHandler]:
    """The handlers of this module, by operation."""

    def start(request: HttpRequest) -> Answering:
        request.check_query()
        new = decode(_new, request.body)
        check_name(new.user_id, "user_id")
        check_name(new.username, "username")
        fields = strict_json.decode(_object, request.body)
        extra = {name: value.copy() for name, value in fields.items() if name not in _OWN}
        data = given(new.session_data)
        on_logout = _on_logout(new.on_logout)
        ttl = DEFAULT_TTL if new.ttl is None else new.ttl

        def started(login: Login) -> HttpAnswer:
            return json_answer(201, view(login), [("location", f"/api/logins/{login.session_id}")])

        def begin(done: Reply[Login | PeerFault]) -> None:
            logins.start(new.user_id, new.username, data, ttl, extra, done, message=new.message, on_logout=on_logout)

        return when_answered(begin, started)

    def of_user(request: HttpRequest) -> Answering:
        request.check_query("user_id")
        user_id = request.query.get("user_id")
        if not user_id:
            raise PeerFault(ErrorCode.MISSING_FIELD, "Say whose sessions: /api/logins?user_id=…", field="user_id")

        def listed(found: list[Login]) -> HttpAnswer:
            return json_answer(200, {"logins": [view(login) for login in found]})

        return when_answered(lambda done: logins.of_user(user_id, done), listed)

    def get(request: HttpRequest) -> Answering:
        request.check_query()
        session_id = request.parameters["session_id"]

        def found(login: Login | None) -> HttpAnswer:
            if login is None:
                raise _not_found()
            return json_answer(200, view(login))

        return when_answered(lambda done: logins.get(session_id, done), found)

    def end(request: HttpRequest) -> Answering:
        request.check_query("reason")
        request.check_no_fields()
        reason = _REASONS.get(request.query.get("reason", "logout"))
        if reason is None:
            raise PeerFault(ErrorCode.BAD_FIELD, "The reason must be logout or revoked.", field="reason")
        session_id = request.parameters["session_id"]

        def ended(login: Login | None) -> HttpAnswer:
            if login is None:
                raise _not_found()
            return json_answer(200, EndedLogin(login.session_id, login.user_id, reason))

        return when_answered(lambda done: logins.end(session_id, reason, done), ended)

    return {"startLogin": start, "listLogins": of_user, "getLogin": get, "endLogin": end}
