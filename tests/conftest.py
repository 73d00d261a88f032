"""What all tests share: how many examples hypothesis makes."""

import os

from hypothesis import HealthCheck, settings

# A folder or a patch of a test is shared by its examples, which each make what they need in it.
SHARED = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

settings.register_profile("quick", SHARED, max_examples=10)
settings.register_profile("thorough", SHARED, max_examples=30)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))
