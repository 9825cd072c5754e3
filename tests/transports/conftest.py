"""Assertions in the contract show what they compared, though its modules are no test modules."""

import pytest

pytest.register_assert_rewrite(
    *(f"tests.transports.contract_{part}" for part in ("messages", "ending", "crowd", "handshake"))
)
