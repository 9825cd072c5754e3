"""What all tests share: hypothesis draws the same examples every time, however loaded the machine is."""

import os

from hypothesis import HealthCheck, settings

settings.register_profile("same", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
# For a search of one's own: HYPOTHESIS_PROFILE=search pytest tests/wire
settings.register_profile("search", deadline=None, max_examples=5000, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))
