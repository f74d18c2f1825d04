"""Settings for all tests: hypothesis times nothing, for a test must not fail because the machine is busy."""

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("fluxsrc", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("fluxsrc")


@pytest.fixture
def impatient(monkeypatch):
    """Retries wait for milliseconds here."""
    from fluxsrc._io.http import retry

    policy = retry.RetryPolicy(base=0.001)
    monkeypatch.setattr(retry, "DEFAULT_POLICY", policy)
    monkeypatch.setattr(retry.retrying, "__kwdefaults__", {"policy": policy})
    monkeypatch.setattr(retry.Attempts.__init__, "__defaults__", (policy,))
