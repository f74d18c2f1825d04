"""Git repositories on disk pass the contract, in both object formats."""

import pytest

from fluxsrc.git import GitSource
from fluxsrc.testing import SourceContract
from fluxsrc.testing.git import GitRepositoryBuilder


class LocalGitOrigin:
    secrets = ()
    keeps_modes = True

    def __init__(self, path, **options):
        self.repository = GitRepositoryBuilder(path, **options)

    def publish(self, files):
        self.repository.commit(files)

    def source(self, **options):
        return GitSource(self.repository.path, branch="main", **options)

    def missing(self):
        return GitSource(self.repository.path, branch="missing")


class TestGitOnDisk(SourceContract):
    @pytest.fixture
    def origin(self, tmp_path):
        return LocalGitOrigin(tmp_path / "repository.git")


class TestGitOnDiskWithSHA256(SourceContract):
    @pytest.fixture
    def origin(self, tmp_path):
        return LocalGitOrigin(tmp_path / "repository.git", object_format="sha256")
