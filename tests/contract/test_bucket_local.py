"""`BucketSource` over a directory keeps the contract of every source."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from fluxsrc.bucket import BucketSource, LocalBucket
from fluxsrc.memory import MemoryFile
from fluxsrc.testing import SourceContract


class LocalOrigin:
    """A directory, written to directly; with a prefix, between objects that are none of the source's business."""

    secrets = ()
    keeps_modes = False

    def __init__(self, root: Path, prefix: str) -> None:
        self.root = root
        self.prefix = prefix

    def publish(self, files: Mapping[str, MemoryFile], /) -> None:
        shutil.rmtree(self.root, ignore_errors=True)
        noise = {"aside": b"1", "zz/aside": b"2"} if self.prefix else {}
        for key, data in {**noise, **{self.prefix + path: file.data for path, file in files.items()}}.items():
            target = self.root / key
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)

    def source(self, **options: Any) -> BucketSource:
        return BucketSource(LocalBucket(self.root), self.prefix, strip_prefix=True, **options)

    def missing(self) -> BucketSource:
        return BucketSource(LocalBucket(self.root / "no-such-bucket"))


@pytest.mark.parametrize("prefix", ["", "apps/prod/"], ids=["root", "prefix"])
class TestLocalBucket(SourceContract):
    """With and without a prefix that is stripped."""

    @pytest.fixture
    def origin(self, tmp_path: Path, prefix: str) -> LocalOrigin:
        return LocalOrigin(tmp_path / "bucket", prefix)
