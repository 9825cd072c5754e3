"""What the tests of the transports share: a gate whose script is the test's, what is counted, and a reactor.

A file about another transport has a `harness` of its own.
"""

import pytest

from .native_harness import NativeHarness
from .script import Counts, ScriptGate


@pytest.fixture
def harness() -> NativeHarness:
    return NativeHarness()


@pytest.fixture
def gate() -> ScriptGate:
    return ScriptGate()


@pytest.fixture
def counts() -> Counts:
    return Counts()
