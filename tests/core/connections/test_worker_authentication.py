"""Who may become a worker."""

import pytest

from portico.wire.faults import PeerFault
from service.core.connections.worker_authentication import Entry, InvalidHandshake, WorkerAuthentication


@pytest.mark.parametrize(
    ("production", "key", "keys", "trusted", "entry"),
    [
        (False, None, [], False, Entry.IN),
        (False, "key", ["api"], False, Entry.IN),
        (True, None, [], False, Entry.REFUSED),
        (True, "", [""], False, Entry.REFUSED),
        (True, "key", [], False, Entry.PROVE),
        (True, None, ["api"], False, Entry.PROVE),
        (True, "key", ["api"], True, Entry.IN),
    ],
)
def test_entry(production: bool, key: str | None, keys: list[str], trusted: bool, entry: Entry) -> None:
    assert WorkerAuthentication(production=production, handshake_key=key, api_keys=keys).entry(trusted) is entry


@pytest.mark.parametrize("token", [None, "", "wrong", "ke", "key ", "\ud800"])
def test_an_empty_secret_opens_nothing(token: str | None) -> None:
    for key, keys in (("key", [""]), ("", ["api"]), ("key", ["api"])):
        gate = WorkerAuthentication(production=True, handshake_key=key, api_keys=keys)
        with pytest.raises(PeerFault) as caught:
            gate.check_token(token, trusted=False)
        assert caught.value.close == 4001
        with pytest.raises(PeerFault):
            gate.check_handshake(token, trusted=False)


def test_a_configured_key_is_checked_in_development_too() -> None:
    gate = WorkerAuthentication(production=False, handshake_key="key", api_keys=[])
    gate.check_handshake("key", trusted=False)
    with pytest.raises(InvalidHandshake):
        gate.check_handshake("wrong", trusted=True)
    gate.check_token(None, trusted=False)


def test_no_fault_shows_a_secret() -> None:
    gate = WorkerAuthentication(production=True, handshake_key="s3cret", api_keys=["api-s3cret"])
    with pytest.raises(PeerFault) as caught:
        gate.check_token("mine", trusted=False)
    assert "s3cret" not in str(caught.value)
    assert "mine" not in str(caught.value)
