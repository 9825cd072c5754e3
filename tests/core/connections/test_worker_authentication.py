"""Who may become a worker."""

import pytest

from portico.wire.faults import PeerFault
from service.core.api_keys import ApiKey, ApiKeys, Scope, digest_of, whole_key
from service.core.connections.worker_authentication import Entry, InvalidHandshake, WorkerAuthentication


def gate_with(*, production: bool, handshake_key: str | None, api_keys: list[str | ApiKey]) -> WorkerAuthentication:
    return WorkerAuthentication(production=production, handshake_key=handshake_key, api_keys=ApiKeys(api_keys))


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
    shown = whole_key("api", "key-1") if trusted else None
    assert gate_with(production=production, handshake_key=key, api_keys=[*keys]).entry(shown) is entry


@pytest.mark.parametrize("token", [None, "", "wrong", "ke", "key ", "\ud800"])
def test_an_empty_secret_opens_nothing(token: str | None) -> None:
    for key, keys in (("key", [""]), ("", ["api"]), ("key", ["api"])):
        gate = gate_with(production=True, handshake_key=key, api_keys=[*keys])
        with pytest.raises(PeerFault) as caught:
            gate.check_token(token, key=None)
        assert caught.value.close == 4001
        with pytest.raises(PeerFault):
            gate.check_handshake(token, key=None)


def test_a_configured_key_is_checked_in_development_too() -> None:
    gate = gate_with(production=False, handshake_key="key", api_keys=[])
    gate.check_handshake("key", key=None)
    with pytest.raises(InvalidHandshake):
        gate.check_handshake("wrong", key=whole_key("api", "key-1"))
    gate.check_token(None, key=None)


@pytest.mark.parametrize(("token", "said"), [(None, "needs a secret"), ("", "needs a secret"), ("wrong", "is neither")])
def test_a_wrong_secret_is_told_from_none(token: str | None, said: str) -> None:
    gate = gate_with(production=True, handshake_key="key", api_keys=["api"])
    with pytest.raises(PeerFault, match=said):
        gate.check_token(token, key=None)


def test_no_fault_shows_a_secret() -> None:
    gate = gate_with(production=True, handshake_key="s3cret", api_keys=["api-s3cret"])
    with pytest.raises(PeerFault) as caught:
        gate.check_token("mine", key=None)
    assert "s3cret" not in str(caught.value)
    assert "mine" not in str(caught.value)


@pytest.mark.parametrize(("scope", "entry"), [("worker", Entry.IN), ("admin", Entry.IN), ("publish", Entry.PROVE)])
def test_a_key_lets_workers_in_by_its_scope(scope: Scope, entry: Entry) -> None:
    key = ApiKey("shop", frozenset((scope,)), digest_of("the-secret-of-the-shop"))
    gate = gate_with(production=True, handshake_key=None, api_keys=[key])
    assert gate.entry(key) is entry
    # In the handshake or in the first message: it is the same key.
    for token, shown in ((None, key), ("the-secret-of-the-shop", None)):
        assert gate.proven(token, shown) is (entry is Entry.IN)
        if entry is Entry.IN:
            gate.check_token(token, shown)
            continue
        with pytest.raises(PeerFault, match="lacks the scope worker") as caught:
            gate.check_token(token, shown)
        assert caught.value.close == 4003
