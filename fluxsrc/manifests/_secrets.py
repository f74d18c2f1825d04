"""What Secrets say, as credentials. Nothing is read here that the caller's resolver did not hand over."""

import base64
import binascii
from collections.abc import Callable, Mapping
from typing import Any, Final

import attrs

from fluxsrc.auth import BasicAuth, BearerToken, Keychain, Origin, Proxy, Secret, SSHKey, StaticKeychain, TLSConfig
from fluxsrc.errors import ConfigurationError
from fluxsrc.keychains import ChainKeychain, DockerConfig, GitHubApp
from fluxsrc.signatures import AllowedSigners, OpenPGPKeys, PublicKey
from fluxsrc.signatures.publickeys import parse_public_keys

__all__ = ["ObjectReference", "Resolver", "SecretData", "Secrets"]

_MAX_PROXY: Final = 2048
_APP_IDS: Final = frozenset({"githubAppID", "githubAppClientID"})
_DOCKER_CONFIG: Final = ".dockerconfigjson"


@attrs.frozen
class ObjectReference:
    """An object that a manifest refers to.

    Attributes:
        kind: "Secret" or "ServiceAccount".
        namespace: Where the manifest itself is: references never cross namespaces.
        name: Its name.
    """

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}"


Resolver = Callable[[ObjectReference], Mapping[str, Any] | None]
"""Gives the object of a reference as Kubernetes has it (`data`, `stringData`, …), or None if there is none."""


@attrs.frozen(repr=False)
class SecretData:
    """The values of one Secret, by key. Shows none of them."""

    reference: ObjectReference
    _values: Mapping[str, bytes]

    @classmethod
    def of(cls, reference: ObjectReference, manifest: Mapping[str, Any]) -> "SecretData":
        """The values of a Secret's manifest; those of `stringData` win.

        Raises:
            ConfigurationError: It is no Secret, or a value is no base64.
        """
        if manifest.get("kind", "Secret") != "Secret":
            raise ConfigurationError(f"{reference}: what was given for it is no Secret")
        values: dict[str, bytes] = {}
        for field in ("data", "stringData"):
            given = manifest.get(field) or {}
            if not isinstance(given, Mapping):
                raise ConfigurationError(f"{reference}: {field} is no mapping")
            for key, value in given.items():
                values[key] = _decoded(value, f"{reference}: {field}[{key!r}]", encoded=field == "data")
        return cls(reference, values)

    def get(self, *keys: str) -> str | None:
        """The value of the first of these keys that is there; None of none.

        Raises:
            ConfigurationError: It is not UTF-8.
        """
        for key in keys:
            if value := self._values.get(key):
                try:
                    return value.decode()
                except UnicodeDecodeError:
                    raise ConfigurationError(f"{self.reference}: {key!r} is no text") from None
        return None

    def need(self, *keys: str) -> str:
        """The same, of a key that must be there."""
        value = self.get(*keys)
        if value is None:
            raise ConfigurationError(f"{self.reference} has no key {keys[0]!r}")
        return value

    def signers(self) -> list[OpenPGPKeys | AllowedSigners]:
        """Public keys for Git's signatures: SSH ones in keys that end in `.sshpub`, OpenPGP ones in all others."""
        keys: list[OpenPGPKeys | AllowedSigners] = []
        for name in sorted(self._values):
            text = self.need(name)
            keys.append(AllowedSigners.parse(text) if name.endswith(".sshpub") else OpenPGPKeys.parse(text))
        if not keys:
            raise ConfigurationError(f"{self.reference} has no public key in it")
        return keys

    def cosign_keys(self) -> list[PublicKey]:
        """Public keys for cosign's signatures, in the keys that end in `.pub`; others are left alone, as in Flux."""
        names = sorted(name for name in self._values if name.endswith(".pub"))
        keys = [key for name in names for key in parse_public_keys(self.need(name))]
        if not keys:
            raise ConfigurationError(f"{self.reference} has no public key in it", hint="under a name that ends in .pub")
        return keys

    def certificates(self) -> list[bytes]:
        """What notation trusts, in the keys that end in `.crt` or `.pem`; others are left alone, as in Flux."""
        names = sorted(name for name in self._values if name.endswith((".crt", ".pem")))
        if not names:
            raise ConfigurationError(
                f"{self.reference} has no certificate in it", hint="under a name that ends in .crt or .pem"
            )
        return [self._values[name] for name in names]

    def tls(self, *, insecure_skip_verify: bool = False) -> TLSConfig:
        """`ca.crt`, `tls.crt`, `tls.key`, and Flux's older names of them."""
        key = self.get("tls.key", "keyFile")
        return TLSConfig(
            ca=self.get("ca.crt", "caFile"),
            certificate=self.get("tls.crt", "certFile"),
            key=None if key is None else Secret(key),
            insecure_skip_verify=insecure_skip_verify,
        )

    def proxy(self) -> Proxy:
        """`address`, `username`, `password`."""
        address = self.need("address")
        if len(address) > _MAX_PROXY:
            raise ConfigurationError(f"{self.reference}: 'address' is too long")
        password = self.get("password")
        return Proxy(
            url=address, username=self.get("username"), password=None if password is None else Secret(password)
        )

    def http(self, origin: Origin) -> Keychain | None:
        """Credentials for Git over HTTP: `bearerToken`, or `username` and `password`."""
        token, username, password = self.get("bearerToken"), self.get("username"), self.get("password")
        if token is not None:
            return StaticKeychain(((origin, BearerToken(token)),))
        if password is not None and username is None:
            raise ConfigurationError(f"{self.reference} has a 'password', but no 'username'")
        return None if username is None else StaticKeychain(((origin, BasicAuth(username, password or "")),))

    def ssh(self, origin: Origin) -> Keychain:
        """Credentials for Git over SSH: `identity` and `known_hosts`; `password` opens the identity."""
        password = self.get("password")
        key = SSHKey(
            identity=self.need("identity"),
            known_hosts=self.need("known_hosts"),
            passphrase=None if password is None else Secret(password),
        )
        return StaticKeychain(((origin, key),))

    @property
    def is_github_app(self) -> bool:
        """Whether it holds a GitHub App's data."""
        return not _APP_IDS.isdisjoint(self._values)

    def github_app(self, proxy: Proxy | None) -> GitHubApp:
        """`githubAppID` or `githubAppClientID`, `githubAppPrivateKey`, `githubAppInstallation{ID,Owner}`, `githubAppBaseURL`."""
        if all(self.get(name) for name in _APP_IDS):
            raise ConfigurationError(f"{self.reference} has both 'githubAppID' and 'githubAppClientID': give one")
        base_url = self.get("githubAppBaseURL")
        options: dict[str, Any] = {} if base_url is None else {"base_url": base_url}
        return GitHubApp(
            app_id=self.need("githubAppID", "githubAppClientID"),
            private_key=self.need("githubAppPrivateKey"),
            installation_id=self.get("githubAppInstallationID"),
            owner=self.get("githubAppInstallationOwner"),
            tls=self.tls(),
            proxy=proxy,
            **options,
        )

    def registries(self) -> DockerConfig:
        """`.dockerconfigjson`."""
        return DockerConfig.from_secret(self.need(_DOCKER_CONFIG))


def _decoded(value: Any, what: str, *, encoded: bool) -> bytes:
    if isinstance(value, bytes):
        return value
    if not isinstance(value, str):
        raise ConfigurationError(f"{what} is no text")
    if not encoded:
        return value.encode()
    try:
        return base64.b64decode("".join(value.split()), validate=True)
    except (binascii.Error, ValueError):
        raise ConfigurationError(f"{what} is no base64") from None


class Secrets:
    """The Secrets and ServiceAccounts in reach: those that came with the manifests, then the caller's."""

    def __init__(self, given: Mapping[ObjectReference, Mapping[str, Any]], resolver: Resolver | None) -> None:
        self._given = given
        self._resolver = resolver

    def secret(self, namespace: str, name: str) -> SecretData:
        """One Secret.

        Raises:
            ConfigurationError: There is none of this name, or nobody to ask.
        """
        reference = ObjectReference("Secret", namespace, name)
        return SecretData.of(reference, self._find(reference))

    def pull_secrets(self, namespace: str, account: str) -> Keychain | None:
        """The registries that a ServiceAccount's `imagePullSecrets` are for."""
        reference = ObjectReference("ServiceAccount", namespace, account)
        names = [each.get("name", "") for each in self._find(reference).get("imagePullSecrets") or ()]
        keychains = [self.secret(namespace, name).registries() for name in names]
        return ChainKeychain.of(*keychains) if keychains else None

    def _find(self, reference: ObjectReference) -> Mapping[str, Any]:
        found = self._given.get(reference)
        if found is None and self._resolver is not None:
            found = self._resolver(reference)
        if found is None:
            raise ConfigurationError(
                f"{reference} is not there",
                hint=None if self._resolver else "put it beside the manifest, or give resolve= to look it up",
            )
        return found
