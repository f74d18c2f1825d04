"""Logins of a cloud's own: found by its library, kept until they are about to end, for its own hosts and no other."""

import importlib
import threading
import time
from abc import ABC, abstractmethod
from typing import Any, Final

import attrs

from fluxsrc._io.waiting import alone, within
from fluxsrc.auth import Credentials, Origin, Proxy, TLSConfig
from fluxsrc.errors import AuthenticationError, FluxSrcError, MissingExtraError
from fluxsrc.operation import Operation

__all__ = ["CloudLogin", "Login", "library"]

_MARGIN: Final = 300.0
"""Seconds before its end from which a login is replaced."""
_DEFAULT_TIMEOUT: Final = 30.0
_PHASE: Final = "log in"


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

    def of(self, host: str) -> Login | None:
        """The login of this host, if it is good for a while."""
        login = self.by_host.get(host)
        return login if login is not None and login.expires - _MARGIN >= time.time() else None

    def __reduce__(self) -> tuple[type["_Logins"], tuple[()]]:
        return _Logins, ()


@attrs.frozen(kw_only=True)
class CloudLogin(ABC):
    """What the clouds' keychains have in common.

    Attributes:
        timeout: Seconds to log in, if the operation has as many left.
        tls: How the cloud proves who it is, where we ask it ourselves.
        proxy: For those questions.
    """

    timeout: float = _DEFAULT_TIMEOUT
    tls: TLSConfig = attrs.field(factory=TLSConfig)
    proxy: Proxy | None = None
    _logins: _Logins = attrs.field(factory=_Logins, init=False, eq=False, repr=False)

    def credentials(self, origin: Origin, /, *, operation: Operation | None = None) -> Credentials | None:
        """A login for one of this cloud's hosts, None for every other one.

        Raises:
            MissingExtraError: The cloud's library is not installed.
            AuthenticationError: The machine has no identity there, or it is refused.
            TransportTimeoutError: The cloud did not answer in time.
            OperationCancelledError: Nobody wants its answer any more.
        """
        # Over https only, and only at the port that is the cloud's.
        if origin.scheme != "https" or origin.port != 443 or not self._knows(origin.host):  # noqa: PLR2004
            return None
        login = self._logins.of(origin.host)
        if login is None:
            # The clouds' libraries have timeouts of their own, and try again as often as they like.
            part = (operation or Operation()).part(self.timeout)
            login = within(lambda: self._obtain(origin.host, part), part, _PHASE, url=str(origin))
        return login.credentials

    def _obtain(self, host: str, operation: Operation) -> Login:
        logins = self._logins
        with alone(logins.lock, operation, _PHASE, url=host):  # one login, however many threads ask at once
            login = logins.of(host)
            if login is None:
                login = logins.by_host[host] = self._translated(host, operation)
            return login

    def _translated(self, host: str, operation: Operation) -> Login:
        try:
            return self._log_in(host, operation)
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
    def _log_in(self, host: str, operation: Operation) -> Login:
        """A new login there."""


def library(name: str, what: str, extra: str) -> Any:
    """A library that belongs to an extra."""
    try:
        return importlib.import_module(name)
    except ImportError:
        raise MissingExtraError(what, extra=extra) from None
