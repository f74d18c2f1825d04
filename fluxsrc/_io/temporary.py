"""Temporary files and directories, and what to do where there is no place for any: a read-only root is usual in a cluster."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

from fluxsrc._lazy import later
from fluxsrc.errors import StoreError

if TYPE_CHECKING:
    import tempfile
else:
    tempfile = later("tempfile")

__all__ = ["temporary_directory", "temporary_file"]

_PREFIX = "fluxsrc-"


@contextmanager
def temporary_directory(what: str = "") -> Iterator[Path]:
    """A directory that is gone afterwards.

    Args:
        what: What is in it, for whoever finds it in use.

    Raises:
        StoreError: There can be none.
    """
    prefix = f"{_PREFIX}{what}-" if what else _PREFIX
    try:
        directory = tempfile.TemporaryDirectory(prefix=prefix, ignore_cleanup_errors=True)
    except OSError as exc:
        raise _nowhere("directory", exc) from exc
    with directory as path:
        yield Path(path)


def temporary_file() -> BinaryIO:
    """An unnamed file without a buffer, gone once it is closed.

    Raises:
        StoreError: There can be none.
    """
    try:
        return cast("BinaryIO", tempfile.TemporaryFile(prefix=_PREFIX, buffering=0))
    except OSError as exc:
        raise _nowhere("file", exc) from exc


def _nowhere(what: str, exc: OSError) -> StoreError:
    return StoreError(
        f"cannot make a temporary {what}: {exc.strerror}",
        path=exc.filename,
        hint="set TMPDIR to a directory that can be written to, on a disk that is not full",
    )
