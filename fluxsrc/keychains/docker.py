"""`DockerConfig`: credentials for registries as `docker login` leaves them, and as Kubernetes keeps them in secrets."""

import base64
import fnmatch
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import attrs

from fluxsrc.auth import IDENTITY_TOKEN_USER, BasicAuth, BearerToken, Credentials, Origin, RepositoryKeychain, Secret
from fluxsrc.errors import AuthenticationError, ConfigurationError
from fluxsrc.keychains._program import DEFAULT_TIMEOUT, converse
from fluxsrc.operation import Operation

__all__ = ["DockerConfig"]

_HUB: Final = "https://index.docker.io/v1/"
_HUB_HOSTS: Final = frozenset({"docker.io", "index.docker.io", "registry-1.docker.io"})
_HELPER: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_HOST: Final = re.compile(r"[A-Za-z0-9.:\[\]-]{1,255}")
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_MAX_CONFIG: Final = 4 * 1024 * 1024
_NOT_FOUND: Final = b"credentials not found"


@attrs.frozen(kw_only=True)
class DockerConfig:
    """A Docker configuration: `auths`, `credHelpers` and `credsStore`.

    A file is read anew for each question, so that a later `docker login`, or a secret that Kubernetes replaces, is seen.
    A helper is a program: those that a file names are run, those that a secret names never are.

    As Kubernetes has it, an entry of `auths` may be for a path within a registry, of which the longest that fits counts,
    and a `*` in a host stands for a part of one label.

    Attributes:
        path: The file.
        text: The content of a `kubernetes.io/dockerconfigjson` secret, instead of a file.
        timeout: Seconds for a helper's answer, if the operation has as many left.
    """

    path: str | None = None
    text: Secret | None = None
    timeout: float = DEFAULT_TIMEOUT

    def __attrs_post_init__(self) -> None:
        if (self.path is None) == (self.text is None):
            raise ConfigurationError("a DockerConfig has a path or a text: give exactly one of them")

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> "DockerConfig":
        """The user's own: `$DOCKER_CONFIG/config.json`, or `~/.docker/config.json`. It need not be there.

        Raises:
            ConfigurationError: The variable is not set, and the user has no home directory.
        """
        environ = os.environ if environ is None else environ
        directory = environ.get("DOCKER_CONFIG")
        if not directory:
            try:
                directory = str(Path.home() / ".docker")
            except RuntimeError as exc:
                raise ConfigurationError(
                    "neither DOCKER_CONFIG nor HOME is set, and this user has no home directory: where is Docker's config.json?"
                ) from exc
        return cls(path=str(Path(directory) / "config.json"))

    @classmethod
    def from_secret(cls, text: str | bytes) -> "DockerConfig":
        """From the `.dockerconfigjson` of a Kubernetes secret, base64-decoded."""
        return cls(text=Secret(text if isinstance(text, str) else text.decode(errors="replace")))

    def credentials(self, origin: Origin, /, *, operation: Operation | None = None) -> Credentials | None:
        """What the configuration has for a registry as a whole; see `repository_credentials`."""
        return self.repository_credentials(origin, "", operation=operation)

    def repository_credentials(
        self, origin: Origin, repository: str, /, *, operation: Operation | None = None
    ) -> Credentials | None:
        """What the configuration has for a repository.

        Raises:
            ConfigurationError: The configuration cannot be read.
            AuthenticationError: A helper failed.
            TransportTimeoutError: A helper did not answer; it is ended.
            OperationCancelledError: Nobody wants its answer any more; it is ended.
        """
        if origin.scheme not in _DEFAULT_PORTS or not _HOST.fullmatch(origin.host):
            return None
        config = self._load()
        bare = f"[{origin.host}]" if ":" in origin.host else origin.host
        usual, full = origin.port == _DEFAULT_PORTS[origin.scheme], f"{bare}:{origin.port}"
        host = bare if usual else full
        # `docker login HOST:443` is kept as it was typed.
        hosts = _HUB_HOSTS if host in _HUB_HOSTS else frozenset({host, full})
        server = _HUB if host in _HUB_HOSTS else host
        if self.path is not None:
            for key, helper in _mapping(config.get("credHelpers"), self._where).items():
                if _place(key)[0] in hosts:
                    return self._ask(helper, server, operation)
        auths = _mapping(config.get("auths"), self._where)
        fitting = [key for key in auths if _fits(key, hosts, repository)]
        for key in sorted(fitting, key=lambda key: len(_place(key)[1]), reverse=True):
            found = self._entry(auths[key])
            if found is not None:
                return found
        if self.path is not None and config.get("credsStore"):
            return self._ask(config["credsStore"], server, operation)
        return None

    @property
    def _where(self) -> str:
        return self.path or "the Docker configuration of a secret"

    def _load(self) -> dict[str, Any]:
        if self.text is not None:
            data: str | bytes = self.text.reveal()
        else:
            assert self.path is not None
            try:
                with open(self.path, "rb") as file:
                    data = file.read(_MAX_CONFIG + 1)
            except FileNotFoundError:
                return {}
            except OSError as exc:
                raise ConfigurationError(f"cannot read {self.path}: {exc.strerror}") from exc
        if len(data) > _MAX_CONFIG:
            raise ConfigurationError(f"{self._where} is larger than {_MAX_CONFIG:,} bytes")
        try:
            value = json.loads(data)
        except (ValueError, RecursionError):
            value = None  # the library's text may quote a password: it is not chained
        if not isinstance(value, dict):
            raise ConfigurationError(f"{self._where} is not a Docker configuration in JSON")
        return value

    def _entry(self, entry: Any) -> Credentials | None:
        if not isinstance(entry, dict):
            raise ConfigurationError(f"{self._where}: an entry of auths is not an object")
        text: dict[str, str] = {key: value for key, value in entry.items() if isinstance(value, str) and value}
        if "registrytoken" in text:
            return BearerToken(text["registrytoken"])
        username, password = text.get("username", ""), text.get("password", "")
        if "auth" in text:
            try:
                decoded = base64.b64decode(text["auth"], validate=True).decode()
            except ValueError:
                decoded = ""
            if ":" not in decoded:
                raise ConfigurationError(f"{self._where}: an auth is not base64 of USER:PASSWORD") from None
            username, _, password = decoded.rstrip("\0").partition(":")
        if "identitytoken" in text:
            return BasicAuth(IDENTITY_TOKEN_USER, text["identitytoken"])
        return BasicAuth(username, password) if username and password else None

    def _ask(self, helper: Any, server: str, operation: Operation | None) -> Credentials | None:
        if not isinstance(helper, str) or not _HELPER.fullmatch(helper):
            raise ConfigurationError(f"{self._where} names a credential helper that is none: {str(helper)[:64]!r}")
        program = f"docker-credential-{helper}"
        answer, status = converse(
            [program, "get"],
            server.encode(),
            operation=(operation or Operation()).part(self.timeout),
            name=program,
            url=server,
        )
        if status:
            if _NOT_FOUND in answer.lower():
                return None
            # Without what it said: that may well be a part of a password.
            raise AuthenticationError(f"{program} failed for {server} with status {status}")
        try:
            value = json.loads(answer)
            username, password = value["Username"], value["Secret"]
        except (KeyError, TypeError, ValueError, RecursionError):
            username = password = None
        if not isinstance(username, str) or not isinstance(password, str):
            raise AuthenticationError(f"{program} answers nonsense for {server}")
        return BasicAuth(username, password) if password else None


def _place(key: str) -> tuple[str, str]:
    """The host, and perhaps port, and the path within it that a key of `auths` or `credHelpers` means.

    >>> _place("https://index.docker.io/v1/"), _place("ghcr.io"), _place("host/team")
    (('index.docker.io', ''), ('ghcr.io', ''), ('host', 'team'))
    """
    host, _, path = key.removeprefix("https://").removeprefix("http://").partition("/")
    path = path.strip("/")
    return host.lower(), "" if path in ("v1", "v2") else path


def _fits(key: str, hosts: frozenset[str], repository: str) -> bool:
    pattern, path = _place(key)
    if path and repository != path and not repository.startswith(f"{path}/"):
        return False
    if "*" not in pattern:
        return pattern in hosts
    # Label by label: "*.example.com" is neither "example.com" nor "a.b.example.com".
    labels = pattern.split(".")
    return any(
        len(labels) == len(host.split("."))
        and all(fnmatch.fnmatchcase(label, part) for part, label in zip(labels, host.split("."), strict=True))
        for host in hosts
    )


def _mapping(value: Any, where: str) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ConfigurationError(f"{where}: auths and credHelpers are objects")
    return value


if TYPE_CHECKING:
    _: RepositoryKeychain = DockerConfig(path="")
