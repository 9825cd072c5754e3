"""What a node's lease says, as others read it."""

import msgspec
import pytest

from service.backplane.redis.members import Seen, Word, read_lease
from service.core.cluster.backplane import NodeState

STATE = NodeState("n1", "combined", None, False, 3, b"{}")


def test_a_lease_says_which_life_of_a_node_it_is_and_what_it_has_told() -> None:
    word = Word(7, STATE, {"keys": "ab"})
    seen = read_lease(b"life-1 " + msgspec.json.encode(word), 10.0, 20.0)
    assert seen == Seen("life-1", word, 10.0, 20.0)


@pytest.mark.parametrize("text", [b"", b"life-1", b"life-1 {}", b'life-1 ["x"]', b"li\xffe 7", b"\xff " + b"[" * 1000])
def test_what_another_program_wrote_is_nobody(text: bytes) -> None:
    assert read_lease(text, 10.0, 20.0) is None
