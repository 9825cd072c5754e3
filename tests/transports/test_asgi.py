"""The ASGI transport: the contract, and what is its own."""

import pytest

from .asgi_harness import AsgiHarness, Lines
from .contract import TransportContract


class TestAsgiTransport(TransportContract):
    @pytest.fixture
    def harness(self) -> AsgiHarness:
        return AsgiHarness(Lines())
