"""Settings for all tests: hypothesis times nothing, for a test must not fail because the machine is busy."""

from hypothesis import HealthCheck, settings

settings.register_profile("fluxsrc", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("fluxsrc")
