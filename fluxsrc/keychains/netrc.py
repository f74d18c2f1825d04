"""`NetrcKeychain`: user names and passwords from a `.netrc` file that was named."""

import netrc
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from fluxsrc.auth import BasicAuth, Credentials, Keychain, Origin
from fluxsrc.errors import ConfigurationError
from fluxsrc.operation import Operation

__all__ = ["NetrcKeychain"]


@attrs.frozen
class NetrcKeychain:
    """The entries of a `.netrc` file, read anew each time.

    A `machine` is an origin here: `host` is https on its usual port, `host:port` is https on that port. `default` entries
    are passed over: they would hand a password to any host that asks.

    Attributes:
        path: The file.
        allow_http: Whether entries count for plain http as well. Anybody on the way can read them then.
    """

    path: Path = attrs.field(converter=Path)
    allow_http: bool = attrs.field(default=False, kw_only=True)

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> "NetrcKeychain":
        """The file that `NETRC` names, or else `~/.netrc`.

        Raises:
            ConfigurationError: Neither variable says where that is.
        """
        environ = os.environ if environ is None else environ
        if environ.get("NETRC"):
            return cls(Path(environ["NETRC"]))
        if environ.get("HOME"):
            return cls(Path(environ["HOME"]) / ".netrc")
        raise ConfigurationError("neither NETRC nor HOME is set: where is the .netrc file?")

    def credentials(self, origin: Origin, /, *, operation: Operation | None = None) -> Credentials | None:  # noqa: ARG002
        """The entry of this origin.

        Raises:
            ConfigurationError: The file cannot be read.
        """
        ports = {"https": 443} | ({"http": 80} if self.allow_http else {})
        if origin.scheme not in ports:
            return None
        hosts = self._read()
        name = f"{origin.host}:{origin.port}"
        if name not in hosts and origin.port == ports[origin.scheme]:
            name = origin.host
        if name not in hosts or name == "default":
            return None
        login, _, password = hosts[name]
        return BasicAuth(login, password or "") if login else None

    def _read(self) -> Mapping[str, tuple[str, str, str | None]]:
        problem = ""
        try:
            hosts = netrc.netrc(str(self.path)).hosts
        except OSError as exc:
            problem = exc.strerror or "cannot be read"
        except netrc.NetrcParseError as exc:
            # The parser quotes what it stumbled over, which may be a password.
            problem = f"line {exc.lineno} is not understood"
        except UnicodeDecodeError:
            problem = "is not UTF-8"
        if problem:
            raise ConfigurationError(f"{self.path}: {problem}", hint="the .netrc file was asked for by name")
        return {machine.lower(): entry for machine, entry in hosts.items()}


if TYPE_CHECKING:
    _: Keychain = NetrcKeychain(Path())
