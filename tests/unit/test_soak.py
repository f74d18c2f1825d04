"""A short soak: two hundred sources, faults of every kind, and in the end everything is right and nothing is left."""

import tempfile

import pytest

from helpers import soak


@pytest.fixture(autouse=True)
def own_temporary_directory(tmp_path, monkeypatch):
    """So that what stays is seen."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "soak" / "tmp"))


def test_two_hundred_sources_survive_a_broken_world(tmp_path):
    """Errors, timeouts, cut and corrupt bytes, a full disk, moved tags: then each is at its right revision."""
    reasons = frozenset({"StorageOperationFailed", "DigestMismatch"})
    run = soak.Soak(tmp_path / "soak", sources=200, looks=300, reasons_to_see=reasons, recoveries_to_see=11)
    statuses = run.run()
    assert len(statuses) == 200
    assert run.events["RefMoved"] > 10
    assert run.events["Recovered"] > 10
    assert set(run.reasons) >= reasons
