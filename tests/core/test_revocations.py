"""The index of what was taken back: which proofs a revocation names, which takes which one's place, and its size."""

import pytest

from service.core.proof import Proof
from service.core.revocations import Kind, Revocation, RevocationIndex


@pytest.mark.parametrize(
    ("kind", "value", "before", "gone"),
    [
        ("token_id", "j1", None, {"j1"}),
        ("tenant", "shop", None, {"j1", "j2"}),
        ("tenant", "shop", 150.0, {"j1"}),
        ("user_id", "ann", 150.0, {"j1", "j3"}),
        ("all", "", 150.0, {"j1", "j3"}),
        ("all", "", 100.0, {"j3"}),
        ("token_id", "ann", None, set()),
        ("tenant", "ann", None, set()),
    ],
)
def test_what_a_revocation_names(kind: Kind, value: str, before: float | None, gone: set[str]) -> None:
    index = RevocationIndex()
    index.add(Revocation(kind, value, before, 0.0, 10.0))
    proofs = [
        Proof("ann", tenant="shop", token_id="j1", issued_at=100.0),
        Proof("bob", tenant="shop", token_id="j2", issued_at=200.0),
        Proof("ann", token_id="j3"),  # nobody knows when
        Proof("cleo", issued_at=300.0),
    ]
    assert {proof.token_id for proof in proofs if index.covers(proof)} == gone


def test_a_later_one_takes_the_earlier_ones_place() -> None:
    index = RevocationIndex()
    long, short = Revocation("user_id", "ann", None, 0.0, 1000.0), Revocation("user_id", "ann", None, 1.0, 2.0)
    since = Revocation("user_id", "ann", 0.5, 1.0, 500.0)
    assert [index.add(one) for one in (long, long, since, short)] == [True, False, True, True]
    assert len(index) == len(list(index)) == 2
    index.expire(3.0)
    assert list(index) == [since]
    index.expire(1000.0)
    assert len(index) == 0


def test_what_is_made_again_and_again_takes_no_more_room() -> None:
    index = RevocationIndex()
    for number in range(10_000):
        index.add(Revocation("user_id", "ann", None, number, 1e6 + number))
    assert len(index) == 1
    assert len(index._ends) <= 1002
