"""HttpRequest: one request as the handlers see it, whichever server read it, and the strict decoding of its body.

A handler is a plain function from an HttpRequest to an HttpAnswer. What cannot be accepted it raises as a PeerFault. A
handler that has to wait returns an awaitable instead, for example:

    def get_login(request: HttpRequest) -> Awaitable[HttpAnswer]: ...

so that whatever can be answered at once needs no task. Knows no server, socket or framework.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Final, TypeVar
from urllib.parse import parse_qsl

import msgspec
from msgspec import Raw, Struct, UnsetType

from portico.wire import strict_json
from portico.wire.codes import ErrorCode
from portico.wire.faults import PeerFault
from portico.wire.messages import NULL
from portico.wire.outline import decode_form
from service.core.ports import HttpAnswer, HttpHead

T = TypeVar("T", bound=Struct)

MAX_BODY: Final = 16 << 20
"""Bytes that any body may have; single routes allow less."""
MAX_NO_FIELDS: Final = 4096
"""Bytes that a body may have on a route that takes none: enough to say what is wrong with it."""


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """One request on a route. `parameters` are the path's, by name; `query` has the first value of each name; `caller`
    is the name of the API key that it came with."""

    head: HttpHead
    parameters: Mapping[str, str]
    query: Mapping[str, str]
    body: bytes = b""
    caller: str | None = None

    def check_query(self, *names: str) -> None:
        """Refuse a query with anything but `names`: a filter that is misspelt must not select everything.

        Raises PeerFault `bad_field`.
        """
        for name in self.query:
            if name not in names:
                known = ", ".join(names) if names else "none"
                raise PeerFault(
                    ErrorCode.BAD_FIELD, f"The query has a parameter that is not known here; known: {known}."
                )

    def check_no_fields(self) -> None:
        """Refuse a body that says anything, on a route that takes none: what is misspelt, or meant for another route,
        must not be passed over in silence. Empty bodies and `{}` say nothing.

        Raises PeerFault: `bad_json`, `not_an_object` or `bad_field`.
        """
        if self.body and not self.body.isspace():
            decode(_nothing, self.body)


class Nothing(Struct, forbid_unknown_fields=True):
    """The body of a route that takes none."""


_nothing: Final = msgspec.json.Decoder(Nothing)

Answering = HttpAnswer | Awaitable[HttpAnswer]
"""What a handler returns: the answer, or what is awaited for it."""

HttpHandler = Callable[[HttpRequest], Answering]


def read_query(text: str) -> dict[str, str]:
    """The parameters of a query, percent-decoded; of a name that comes twice the first value counts."""
    found: dict[str, str] = {}
    for name, value in parse_qsl(text, keep_blank_values=True, errors="replace"):
        found.setdefault(name, value)
    return found


def whole_number(request: HttpRequest, name: str, default: int, low: int, high: int) -> int:
    """A parameter of the query that is a whole number within bounds. Raises PeerFault `bad_field`."""
    text = request.query.get(name)
    if text is None:
        return default
    # A long run of digits is out of range whatever it says; int() would refuse it in its own way.
    if not (text.isascii() and text.isdigit()) or len(text) > 9 or not low <= int(text) <= high:
        raise PeerFault(ErrorCode.BAD_FIELD, f"The {name} must be a whole number from {low} to {high}.", field=name)
    return int(text)


def decode(decoder: msgspec.json.Decoder[T], payload: bytes) -> T:
    """A whole body, as strictly as what comes over WebSockets: no key of the form's may occur twice in one object, no
    number may be larger than a double, and there are no fields but the form's.

    Raises PeerFault: `bad_json`, `not_an_object`, `missing_field` or `bad_field`.
    """
    decoded = decode_form(decoder, payload)
    strict_json.check_keys(payload, _keys_of(type(decoded)))
    strict_json.check_numbers(payload)
    return decoded


@cache
def _keys_of(form: type[Struct]) -> tuple[bytes, ...]:
    return strict_json.fields_of(form)


def given(raw: Raw | UnsetType) -> Raw:
    """A value to pass on; JSON's null where there was none. Its own copy, so that it doesn't keep the body alive."""
    return raw.copy() if isinstance(raw, Raw) else NULL
