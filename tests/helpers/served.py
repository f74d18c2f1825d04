"""What the tests of the server have it serve."""

import os
import random

from fluxsrc.artifact import SourceKey
from fluxsrc.memory import MemorySource
from fluxsrc.server._http import PIECE

KEY = SourceKey("memory", "default", "app")
LATEST = "/memory/default/app/latest.tar.gz"
BIG = random.Random(1).randbytes(3 * PIECE)
"""Nothing gzip could make smaller: the archive is sent in pieces."""


def make(store, text="one", *, big=False, **options):
    files = {"app.yaml": f"name: {text}\n", **({"big": BIG} if big else {})}
    return MemorySource(files, **options).produce_artifact(store, name="app")


def stored(store, artifact):
    with store.open(artifact) as stream:
        return stream.read()


def damage(store, artifact, *, keep_time=False):
    """Change a bit of a blob, as a disk does."""
    path = store.blob_path(artifact.digest)
    before = path.stat()
    path.chmod(0o644)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    with path.open("r+b") as stream:
        stream.write(data)
    if keep_time:
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
