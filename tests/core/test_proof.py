"""Proof: which registrations and commands it allows."""

import time

import pytest

from portico.wire.codes import CloseCode
from portico.wire.faults import PeerFault
from portico.wire.messages import Identity
from service.core.proof import Proof, matches


def test_the_user_is_the_proven_one() -> None:
    proof = Proof("ann")
    assert proof.identity(Identity("c1", "ann", "Ann")) == Identity("c1", "ann", "Ann")
    assert proof.identity(Identity("c1", None, "Ann", "n1")) == Identity("c1", "ann", "Ann", "n1")
    for user in ("bob", "Ann", "ann ", ""):
        with pytest.raises(PeerFault) as refused:
            proof.identity(Identity("c1", user))
        assert refused.value.close is CloseCode.NOT_ALLOWED
        assert "ann" not in refused.value.message


def test_a_proof_without_a_user_makes_nobody_one() -> None:
    proof = Proof(None, role="worker")
    assert proof.identity(Identity("w1")).user_id is None
    with pytest.raises(PeerFault):
        proof.identity(Identity("w1", "ann"))


@pytest.mark.parametrize("field", ["client_id", "node_id", "domain_id", "cluster_id", "channel_id"])
def test_claims_restrict_their_field_only(field: str) -> None:
    proof = Proof("ann", fields={field: ("one", "team-*")})
    for value in ("one", "team-", "team-7"):
        assert getattr(proof.identity(Identity(user_id="ann", **{field: value})), field) == value
    for value in ("two", "team", "xteam-7", "One"):
        with pytest.raises(PeerFault) as refused:
            proof.identity(Identity(user_id="ann", **{field: value}))
        assert refused.value.field == field
    assert proof.identity(Identity(user_id="ann")).user_id == "ann"


@pytest.mark.parametrize(
    ("pattern", "fits", "fails"),
    [
        ("*", ["", "a", "a.b"], []),
        ("a*b", ["ab", "aXb", "abb"], ["a", "b", "ba", "abc"]),
        ("aa*aa", ["aaaa", "aaXaa"], ["aaa", "aa"]),
        ("*x*y*", ["xy", "1x2y3"], ["yx", "x", ""]),
        ("a.c", ["a.c"], ["abc"]),
        ("**", ["", "b"], []),
        ("[a]*", ["[a]", "[a]b"], ["a"]),
    ],
)
def test_patterns(pattern: str, fits: list[str], fails: list[str]) -> None:
    assert all(matches((pattern,), value) for value in fits)
    assert not any(matches((pattern,), value) for value in fails)


def test_a_hostile_pattern_takes_no_time() -> None:
    before = time.process_time()
    assert not matches(("a*" * 100 + "b",), "a" * 256)
    assert time.process_time() - before < 1


def test_a_refresh_is_the_same_principals() -> None:
    assert Proof("ann", expires_at=1).renewed_by(Proof("ann", expires_at=2))
    for other in (Proof("bob"), Proof("ann", role="admin"), Proof("ann", tenant="other")):
        assert not Proof("ann").renewed_by(other)
