"""The first message decides."""

import pytest

from portico.wire.codes import CloseCode, ErrorCode
from portico.wire.dialects import envelope
from portico.wire.dialects.negotiate import BY_SUBPROTOCOL, Dialect, dialect_of
from portico.wire.faults import PeerFault


@pytest.mark.parametrize(
    ("payload", "dialect"),
    [
        (b'{"type":"c_client_register"}', Dialect.C_CLIENT),
        (b'{"type":"c_client_register","command":"x"}', Dialect.C_CLIENT),
        (b'{"type":"c_client\\u005fregister"}', Dialect.C_CLIENT),
        (b'{"command":"echo"}', Dialect.REQUESTER),
        (b'{"command":null}', Dialect.REQUESTER),
        (b'{"command":"echo","type":"request"}', Dialect.REQUESTER),
        *((b'{"type":"%b"}' % kind.encode(), Dialect.ENVELOPE) for kind in sorted(envelope.TYPES)),
    ],
)
def test_known(payload: bytes, dialect: Dialect) -> None:
    assert dialect_of(payload) is dialect


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"hello",
        b"[]",
        b"{}",
        b"null",
        b'{"type":"x"}',
        b'{"type":5}',
        b'{"type":{"a":1}}',
        b'{"Command":"x"}',
        b"\xff",
        b"[" * 10_000 + b"]" * 10_000,
        b'{"type":NaN}',
    ],
)
def test_anything_else_is_unknown_and_closes(payload: bytes) -> None:
    with pytest.raises(PeerFault) as caught:
        dialect_of(payload)
    assert (caught.value.code, caught.value.close) == (ErrorCode.UNKNOWN_DIALECT, CloseCode.NOT_A_DIALECT)


def test_subprotocols() -> None:
    assert {name: dialect.value for name, dialect in BY_SUBPROTOCOL.items()} == {
        "portico.c-client.v1": "c_client",
        "portico.envelope.v1": "envelope",
        "portico.requester.v1": "requester",
    }
