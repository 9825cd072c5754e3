"""What every transport does, as one suite: subclass TransportContract and give it a `harness` fixture.

Knows the ports and the bytes on the wire; must never know which transport it is run over, beyond the
traits that a Harness states about itself. Real sockets throughout.
"""

import pytest

from .contract_compression import CompressionContract
from .contract_crowd import CrowdContract
from .contract_ending import EndingContract
from .contract_handshake import HandshakeContract
from .contract_life import LifeContract
from .contract_messages import MessageContract
from .contract_pressure import PressureContract
from .contract_unfinished import UnfinishedContract
from .harness import Harness, Options, flood, native_only, scripted, send_what_is_taken, still_serves, until
from .script import Counts, ScriptGate

__all__ = [
    "Harness",
    "Options",
    "TransportContract",
    "flood",
    "native_only",
    "scripted",
    "send_what_is_taken",
    "still_serves",
    "until",
]


class TransportContract(
    MessageContract,
    CompressionContract,
    EndingContract,
    CrowdContract,
    PressureContract,
    UnfinishedContract,
    LifeContract,
    HandshakeContract,
):
    """The suite. Fixtures: `harness` (yours), `gate` and `counts` (a fresh one each)."""

    @pytest.fixture
    def gate(self) -> ScriptGate:
        return ScriptGate()

    @pytest.fixture
    def counts(self) -> Counts:
        return Counts()
