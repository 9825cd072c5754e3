"""Messages near the valid ones: values exchanged, keys dropped, doubled and escaped, bytes cut and flipped."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from hypothesis import strategies as st

SPITEFUL: Sequence[object] = (
    None,
    True,
    0,
    -1,
    1.5,
    10**400,
    2**64,
    "",
    "x" * 129,
    "x" * 257,
    "a\u202eb",
    "a\x00b",
    "\u2028",
    [],
    {},
    [[]],
    {"type": "heartbeat"},
)
TOKENS = (b"NaN", b"1e999", b"-Infinity", b"1" * 400, b'"\\ud800"', b"[" * 9000 + b"]" * 9000, b"\xff", b"")

_values = st.sampled_from(SPITEFUL) | st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


def _escape(key: str) -> bytes:
    return b'"' + "".join(f"\\u{ord(letter):04x}" for letter in key).encode() + b'"'


@st.composite
def mutated(draw: st.DrawFn, valid: Sequence[Mapping[str, Any]]) -> bytes:
    """Bytes made of one of the valid messages and what a stranger does to it."""
    message: dict[str, Any] = json.loads(json.dumps(draw(st.sampled_from(valid))))
    places: list[dict[str, Any]] = [message]
    if isinstance(message.get("data"), dict):
        places.append(message["data"])
    for _ in range(draw(st.integers(0, 3))):
        place = draw(st.sampled_from(places))
        key = draw(st.sampled_from(sorted(place) or ["type"]))
        if draw(st.booleans()):
            place.pop(key, None)
        else:
            place[key] = draw(_values)
    payload = json.dumps(message, separators=draw(st.sampled_from([(",", ":"), (", ", ": ")]))).encode()
    trick = draw(st.integers(0, 7))
    if trick == 0:
        payload = payload[: draw(st.integers(0, len(payload)))]
    elif trick == 1:
        at = draw(st.integers(0, len(payload)))
        payload = payload[:at] + draw(st.binary(max_size=4)) + payload[at:]
    elif trick == 2 and message:
        key = draw(st.sampled_from(sorted(message)))
        payload = payload[:-1] + b"," + draw(st.sampled_from([json.dumps(key).encode(), _escape(key)])) + b":1}"
    elif trick == 3 and message:
        payload = payload[:-1] + b',"extra":' + draw(st.sampled_from(TOKENS)) + b"}"
    elif trick == 4:
        payload = draw(st.binary(max_size=64))
    return payload
