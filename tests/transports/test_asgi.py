"""The ASGI transport under the contract: by itself, and where the front door hands what it can to the reactor."""

import pytest

from .asgi_harness import AsgiHarness, DoorHarness, Lines
from .contract import TransportContract


class TestAsgiTransport(TransportContract):
    @pytest.fixture
    def harness(self) -> AsgiHarness:
        return AsgiHarness(Lines())


class TestFrontDoor(TransportContract):
    @pytest.fixture
    def harness(self) -> DoorHarness:
        return DoorHarness(Lines())
