"""Revocations over HTTP: taking back users, tokens and tenants. Source: HTTP API reference, "Taking back"."""

from itertools import islice
from typing import Final

import msgspec

from portico.wire.codes import ErrorCode
from portico.wire.faults import PeerFault
from portico.wire.messages import check_name
from service.core.audit import Audit
from service.core.connections.revoking import Revoking
from service.core.ports import HttpAnswer, Wall
from service.core.revocations import Kind, Revocation

from .answers import json_answer, when_answered
from .forms import NewRevocation, RevocationList, RevocationView
from .request import Answering, HttpHandler, HttpRequest, decode, whole_number

MAX_REVOCATION: Final = 4096
"""Bytes that the body may have."""
LISTED: Final = 100
MAX_LISTED: Final = 1000

_new = msgspec.json.Decoder(NewRevocation)
_NAMED: Final[tuple[Kind, ...]] = ("user_id", "token_id", "tenant")


def revocations_handlers(revoking: Revoking, audit: Audit, wall: Wall) -> dict[str, HttpHandler]:
    """The handlers of this module, by operation."""

    def revoke(request: HttpRequest) -> Answering:
        request.check_query()
        revocation = _revocation(decode(_new, request.body), wall())

        def kept(_: None) -> HttpAnswer:
            named = {} if revocation.kind == "all" else {revocation.kind: revocation.value}
            audit.on_act(
                "revocation",
                request.caller,
                request.head.address,
                issued_before=revocation.issued_before,
                expires_at=revocation.expires_at,
                **named,
            )
            return json_answer(201, _view(revocation))

        return when_answered(lambda done: revoking.revoke(revocation, done), kept)

    def listed(request: HttpRequest) -> Answering:
        request.check_query("limit", "offset")
        limit = whole_number(request, "limit", LISTED, 1, MAX_LISTED)
        offset = whole_number(request, "offset", 0, 0, 999_999_999)
        total = len(revoking.index)
        page = [_view(revocation) for revocation in islice(revoking.index, offset, offset + limit)]
        end = offset + len(page)
        return json_answer(200, RevocationList(page, total, end if page and end < total else None))

    return {"revoke": revoke, "listRevocations": listed}


def _revocation(new: NewRevocation, now: float) -> Revocation:
    named = [kind for kind in _NAMED if getattr(new, kind) is not None]
    if len(named) > 1 or (not named and new.issued_before is None):
        raise PeerFault(
            ErrorCode.BAD_FIELD,
            "Say what is taken back by exactly one of user_id, token_id and tenant, or by issued_before.",
            field=named[1] if named else "user_id",
        )
    if new.token_id is not None and new.issued_before is not None:
        raise PeerFault(
            ErrorCode.BAD_FIELD, "A token was issued when it was: leave issued_before out.", field="issued_before"
        )
    if not named:
        return Revocation("all", "", new.issued_before, now, now + new.ttl)
    value: str = getattr(new, named[0])
    check_name(value, named[0])
    return Revocation(named[0], value, new.issued_before, now, now + new.ttl)


def _view(revocation: Revocation) -> RevocationView:
    of = {"all": None, **dict.fromkeys(_NAMED), revocation.kind: revocation.value}
    return RevocationView(
        of["user_id"], of["token_id"], of["tenant"], revocation.issued_before, revocation.created_at,
        revocation.expires_at,
    )  # fmt: skip
