"""The long soak: more sources, more trouble, flat memory; and processes that are killed at their work."""

import os
import tempfile

import pytest

from helpers import soak

pytestmark = [pytest.mark.servers, pytest.mark.timeout(900)]


MIB = 1 << 20
LOOKS = int(os.environ.get("FLUXSRC_SOAK_LOOKS", "2000"))


@pytest.fixture(autouse=True)
def own_temporary_directory(tmp_path, monkeypatch):
    """So that what stays is seen."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "soak" / "tmp"))


def test_four_hundred_sources_and_flat_memory(tmp_path):
    """The second half of the trouble takes no more memory than the first did."""
    reasons = frozenset({"Timeout", "StorageOperationFailed", "DigestMismatch"})
    run = soak.Soak(tmp_path / "soak", sources=400, looks=LOOKS, reasons_to_see=reasons)
    run.run()
    half = len(run.memory) // 2
    assert max(run.memory[half:]) - max(run.memory[:half]) < 8 * MIB, [each // MIB for each in run.memory]
    assert set(run.reasons) >= reasons


def test_killed_workers_cost_no_source(tmp_path):
    """Processes die at any instant; their sources are looked at again by others."""
    reasons = frozenset({"WorkerLost"})
    run = soak.Soak(tmp_path / "soak", sources=100, looks=LOOKS // 8, reasons_to_see=reasons, processes=True)
    run.run()
    assert run.kills >= 3
    assert len(run.pools) > 3
    assert set(run.reasons) >= reasons
