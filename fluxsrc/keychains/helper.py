"""`GitCredentialHelper`: ask one of git's credential helpers, by name, in git's own protocol."""

import os
import re
import time
from typing import TYPE_CHECKING, Final

import attrs

from fluxsrc.auth import BasicAuth, Credentials, Keychain, Origin
from fluxsrc.errors import AuthenticationError, ConfigurationError
from fluxsrc.keychains._program import DEFAULT_TIMEOUT, converse
from fluxsrc.operation import Operation

__all__ = ["GitCredentialHelper"]

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")
_HOST: Final = re.compile(r"[A-Za-z0-9._:-]{1,255}")
"""Nothing that could end a line, or mean something in a URL: see CVE-2020-5260 and CVE-2024-52006."""
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_ITEM: Final = re.compile(r"([a-z_]+(?:\[\])?)=([^\r\0]*)")


def _check_name(_: object, _attribute: object, name: str) -> None:
    if not _NAME.fullmatch(name):
        raise ConfigurationError(
            f"not the name of a credential helper: {name[:64]!r}",
            hint="'store' for git-credential-store; no path, no options",
        )


@attrs.frozen
class GitCredentialHelper:
    """Runs `git credential-NAME get` for each question, without a terminal to prompt on.

    The one thing of a caller's in its command line is the name, which is checked; the question goes to standard input.

    Attributes:
        name: "store", "cache", "libsecret", "osxkeychain", "manager", …
        timeout: Seconds for one answer, if the operation has as many left.
    """

    name: str = attrs.field(validator=_check_name)
    timeout: float = attrs.field(default=DEFAULT_TIMEOUT, kw_only=True)

    def credentials(self, origin: Origin, /, *, operation: Operation | None = None) -> Credentials | None:
        """What the helper answers for this origin; None if it knows nothing, or asks about anything but http and https.

        Raises:
            ConfigurationError: There is no git to run.
            AuthenticationError: It is not there, failed, or answered nonsense, or for another origin.
            TransportTimeoutError: It did not answer in time; it is ended.
            OperationCancelledError: Nobody wants its answer any more; it is ended.
        """
        if origin.scheme not in _DEFAULT_PORTS or not _HOST.fullmatch(origin.host):
            return None
        host = f"[{origin.host}]" if ":" in origin.host else origin.host
        if origin.port != _DEFAULT_PORTS[origin.scheme]:
            host += f":{origin.port}"
        question = f"protocol={origin.scheme}\nhost={host}\n\n".encode()
        answer = self._parse(self._run(question, origin, operation or Operation()), origin)
        if any(answer.get(key, value) != value for key, value in (("protocol", origin.scheme), ("host", host))):
            raise AuthenticationError(f"the credential helper {self.name!r} answers for another host than {origin}")
        if answer.get("quit", "0") not in ("0", "false") or not answer.get("password"):
            return None
        expiry = answer.get("password_expiry_utc", "")
        if re.fullmatch(r"[0-9]{1,18}", expiry) and int(expiry) <= time.time():
            return None
        return BasicAuth(answer.get("username", ""), answer["password"])

    def _run(self, question: bytes, origin: Origin, operation: Operation) -> bytes:
        environment = {key: value for key, value in os.environ.items() if key not in ("GIT_ASKPASS", "SSH_ASKPASS")}
        environment |= {"GIT_TERMINAL_PROMPT": "0", "GCM_INTERACTIVE": "never", "LC_ALL": "C"}
        answer, status = converse(
            ["git", f"credential-{self.name}", "get"],
            question,
            operation=operation.part(self.timeout),
            name=f"git-credential-{self.name}",
            url=str(origin),
            environment=environment,
        )
        if status:
            raise AuthenticationError(
                f"the credential helper {self.name!r} failed for {origin} with status {status}",
                hint=f"is git-credential-{self.name} installed, and does it answer without asking back?",
            )
        return answer

    def _parse(self, answer: bytes, origin: Origin) -> dict[str, str]:
        """Lines of `key=value` up to an empty one; the last of each key counts, as in git."""
        try:
            lines = answer.decode().split("\n")
        except UnicodeDecodeError:
            raise self._nonsense(origin) from None
        items: dict[str, str] = {}
        for line in lines:
            if not line:
                break
            found = _ITEM.fullmatch(line)
            if found is None:
                raise self._nonsense(origin)
            items[found[1]] = found[2]
        return items

    def _nonsense(self, origin: Origin) -> AuthenticationError:
        # Without what it said: that may well be the second half of a password.
        return AuthenticationError(f"the credential helper {self.name!r} answers nonsense for {origin}")


if TYPE_CHECKING:
    _: Keychain = GitCredentialHelper("store")
