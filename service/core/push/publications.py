"""Publications: one push as a back end writes it, in JSON, to the Publication that a backplane publishes.

The one source of what such an object may be, whichever way it came: by HTTP, or from the ingress stream. What it
carries for clients (`data`) stays the bytes that came. Source: HTTP API reference, "Pushes".
"""

from typing import Annotated, Final

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from portico.wire import strict_json
from portico.wire.codes import ErrorCode
from portico.wire.faults import PeerFault
from portico.wire.messages import ADDRESS_FIELDS, EMPTY_OBJECT, EVERYBODY, Event, Target, check_name
from portico.wire.outline import decode_form

from ..cluster.backplane import Publication

DAY: Final = 86_400
LONGEST_TTL: Final = 30 * DAY

AnObject = Annotated[Raw, Meta(extra_json_schema={"type": ["object", "null"]})]
ClientAddress = Annotated[str, Meta(min_length=1, max_length=128)]
Address = Annotated[str, Meta(min_length=1, max_length=256)]
EventType = Annotated[str, Meta(min_length=1, max_length=128)]
EventId = Annotated[str, Meta(min_length=1, max_length=128)]
Ttl = Annotated[float, Meta(gt=0, le=LONGEST_TTL, description="seconds")]


class PushTarget(Struct, forbid_unknown_fields=True):
    """Whom a push is for: exactly one of these."""

    client_id: ClientAddress | None = None
    user_id: Address | None = None
    node_id: Address | None = None
    domain_id: Address | None = None
    cluster_id: Address | None = None
    channel_id: Address | None = None
    all: bool | None = None


class Notification(Struct, forbid_unknown_fields=True):
    """An event to push. The same `id` twice within 5 minutes is delivered once. `durable` and `ttl` are for events
    that clients can catch up on."""

    target: PushTarget
    type: EventType
    data: AnObject | UnsetType = UNSET
    id: EventId | None = None
    durable: bool | None = False
    ttl: Ttl | None = None


_KEYS: Final = strict_json.fields_of(Notification) + strict_json.fields_of(PushTarget)
_notification = msgspec.json.Decoder(Notification)


def publication_of(payload: bytes, *, check_numbers: bool = True) -> Publication:
    """The Publication that one such object describes. Raises PeerFault.

    `check_numbers` is False where the caller has checked the numbers of the whole message already.
    """
    item = decode_form(_notification, payload)
    data = item.data if isinstance(item.data, Raw) else EMPTY_OBJECT
    passed_on = bytes(data)
    if passed_on == b"null":
        data, passed_on = EMPTY_OBJECT, bytes(EMPTY_OBJECT)
    if passed_on[:1] != b"{":
        raise PeerFault(ErrorCode.BAD_FIELD, "The field 'data' must be a JSON object.", field="data")
    # Most events have type, data, id and a target with one field. Otherwise keys are checked, with `data` blanked out,
    # since it may have keys of any name. (Where the same text stands elsewhere before it, that is blanked out instead,
    # and the keys of `data` are checked too.)
    fields_read = 3 + (item.data is not UNSET) + (item.id is not None)
    if not strict_json.has_only(fields_read, payload, passed_on):
        strict_json.check_keys(payload.replace(passed_on, b"0", 1), _KEYS)
    if check_numbers:
        strict_json.check_numbers(payload)
    target = _target(item.target)
    check_name(item.type, "type")
    return Publication(target, Event(item.type, data), item.id, bool(item.durable), item.ttl)


def _target(given: PushTarget) -> Target:
    found = None
    for kind in ADDRESS_FIELDS:
        value: str | None = getattr(given, kind)
        if value is not None:
            if found is not None:
                raise _bad_target()
            found = Target(kind, value)
    if given.all is None and found is not None:
        return found
    if given.all and found is None:
        return EVERYBODY
    raise _bad_target()


def _bad_target() -> PeerFault:
    kinds = ", ".join(ADDRESS_FIELDS)
    return PeerFault(
        ErrorCode.BAD_FIELD,
        f"The field 'target' must have exactly one of {kinds}, or be {{\"all\": true}}.",
        field="target",
    )
