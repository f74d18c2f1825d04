"""Numbers and moments as text for people, wherever they are shown: on terminals and in notebooks."""

import datetime as dt
from typing import Final

__all__ = ["moment", "plural", "size", "why"]

_KIB: Final = 1024


def moment(time: dt.datetime) -> str:
    """A moment to the second, in UTC: people compare what they see with what others saw elsewhere.

    >>> moment(dt.datetime.fromisoformat("2026-01-02T03:04:05+01:00"))
    '2026-01-02 02:04:05 UTC'
    """
    return f"{time.astimezone(dt.UTC):%Y-%m-%d %H:%M:%S} UTC"


def size(count: int) -> str:
    """Bytes, in a unit that keeps the number short.

    >>> size(512), size(1536), size(3 * 1024**3)
    ('512 B', '1.5 KiB', '3.0 GiB')
    """
    if count < _KIB:
        return f"{count} B"
    amount, unit = count / _KIB, "KiB"
    for larger in ("MiB", "GiB", "TiB"):
        if round(amount, 1) < _KIB:
            break
        amount, unit = amount / _KIB, larger
    return f"{amount:.1f} {unit}"


def plural(count: int, noun: str) -> str:
    """A number and its noun.

    >>> plural(1, "file"), plural(1200, "file")
    ('1 file', '1,200 files')
    """
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def why(error: OSError | UnicodeError) -> str:
    """Why a file could not be read, for a message that has its name already.

    >>> why(FileNotFoundError(2, "No such file or directory", "keys.pem"))
    'No such file or directory'
    """
    return (error.strerror or type(error).__name__) if isinstance(error, OSError) else "it is not UTF-8"
