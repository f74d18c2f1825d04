"""Logins of a cloud's own: found by its library, kept until they are about to end, for its own hosts and no other."""

import importlib
import threading
import time
from abc import ABC, abstractmethod
from typing import Any, Final

import attrs

from fluxsrc.auth import Credentials, Origin, Proxy, TLSConfig
from fluxsrc.errors import AuthenticationError, FluxSrcError, MissingExtraError

__all__ = ["CloudLogin", "Login", "library"]

_MARGIN: Final = 300.0
"""Seconds before its end from which a login is replaced."""
_DEFAULT_TIMEOUT: Final = 30.0


@attrs.frozen
class Login:
    """Credentials, and the time at which they end."""

    credentials: Credentials
    expires: float


class _Logins:
    """Logins until they expire, one at a time for each host; pickles empty."""

    def __init__(self) -> None:
        self.by_host: dict[str, Login] = {}
        self.lock = threading.Lock()

    def __reduce__(self) -> tuple[type["_Logins"], tuple[()]]:
        return _Logins, ()


@attrs.frozen(kw_only=True)
class CloudLogin(ABC):
    """What the clouds' keychains have in common.

    Attributes:
        timeout: Seconds to log in.
        tls: How the cloud proves who it is, where we ask it ourselves.
        proxy: For those questions.
    """

    timeout: float = _DEFAULT_TIMEOUT
    tls: TLSConfig = attrs.field(factory=TLSConfig)
    proxy: Proxy | None = None
    _logins: _Logins = attrs.field(factory=_Logins, init=False, eq=False, repr=False)

    def credentials(self, origin: Origin, /) -> Credentials | None:
        """A login for one of this cloud's hosts, None for every other one.

        Raises:
            MissingExtraError: The cloud's library is not installed.
            AuthenticationError: The machine has no identity there, or it is refused.
        """
        # Over https only, and only at the port that is the cloud's.
        if origin.scheme != "https" or origin.port != 443 or not self._knows(origin.host):  # noqa: PLR2004
            return None
        logins = self._logins
        with logins.lock:
            login = logins.by_host.get(origin.host)
            if login is None or login.expires - _MARGIN < time.time():
                login = logins.by_host[origin.host] = self._translated(origin.host)
            return login.credentials

    def _translated(self, host: str) -> Login:
        try:
            return self._log_in(host)
        except FluxSrcError:
            raise
        except Exception as exc:  # noqa: BLE001 - three libraries, each with its own tree of errors
            failure = type(exc).__name__  # not its text, nor itself: either may hold a token
        raise AuthenticationError(
            f"cannot log in to {host}: {failure}", hint="has this machine an identity in that cloud, allowed to read?"
        )

    @abstractmethod
    def _knows(self, host: str) -> bool:
        """Whether this is one of the cloud's hosts."""

    @abstractmethod
    def _log_in(self, host: str) -> Login:
        """A new login there."""


def library(name: str, what: str, extra: str) -> Any:
    """A library that belongs to an extra."""
    try:
        return importlib.import_module(name)
    except ImportError:
        raise MissingExtraError(what, extra=extra) from None
