"""What all tests share: hypothesis draws the same examples every time, however loaded the machine is."""

import os

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("same", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
# For a search of one's own: HYPOTHESIS_PROFILE=search pytest tests/wire
settings.register_profile("search", deadline=None, max_examples=5000, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))

# Assertions in the transports' contract show what they compared, though its modules are no test modules.
pytest.register_assert_rewrite(
    *(f"tests.transports.contract_{part}" for part in ("messages", "ending", "crowd", "handshake"))
)
pytest.register_assert_rewrite("tests.backplane.contract")
