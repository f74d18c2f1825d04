"""What converting one object needs, and what it learns."""

from collections.abc import Mapping
from typing import Any, Final

import attrs

from fluxsrc.auth import Proxy
from fluxsrc.manifests._fields import Fields
from fluxsrc.manifests._secrets import SecretData, Secrets
from fluxsrc.recipe import Dialect

__all__ = ["IDENTITY_HINT", "NO_IDENTITY", "TIMEOUT", "Context", "Inclusion"]

TIMEOUT: Final = 60.0
"""Seconds that an object without `spec.timeout` has, as in Flux."""

NO_IDENTITY: Final = "the identity of a ServiceAccount is the cluster's to lend, and is not to be had by its name alone"
IDENTITY_HINT: Final = "leave it out, and run this as that ServiceAccount: provider then logs in as whoever runs it; or give keys in a Secret"


@attrs.frozen(kw_only=True)
class Inclusion:
    """An item of `spec.include`.

    Attributes:
        name: Of the GitRepository whose files are included.
        from_path: The sub-tree of it.
        to_path: The directory it goes to.
        place: Where the item stands, for messages.
    """

    name: str
    from_path: str
    to_path: str
    place: str


@attrs.define
class Context:
    """What converting one object needs, and what it learns.

    Attributes:
        namespace: The object's.
        secrets: What it may refer to.
        local: Whether `file://` URLs are accepted.
        options: More arguments for the source: `limits`, `cache`, …
        warnings: Grows by what the manifest's author should know.
        includes: Grows by what the object includes; who knows all objects puts them together.
    """

    namespace: str
    secrets: Secrets
    local: bool
    options: Mapping[str, Any]
    warnings: list[str] = attrs.field(factory=list)
    includes: list[Inclusion] = attrs.field(factory=list)

    def secret(self, spec: Fields, field: str) -> SecretData | None:
        """The Secret that a `{name: …}` refers to."""
        reference = spec.fields(field)
        if reference is None:
            return None
        with reference:
            return self.secrets.secret(self.namespace, reference.need("name"))

    def proxy(self, spec: Fields) -> Proxy | None:
        """`proxySecretRef`."""
        secret = self.secret(spec, "proxySecretRef")
        return None if secret is None else secret.proxy()

    def common(self, spec: Fields) -> dict[str, Any]:
        """What all kinds have: `timeout`, `ignore`."""
        timeout = spec.duration("timeout")
        if "h" in (spec.text("timeout") or ""):
            self.warnings.append(f"{spec.place('timeout')}: has hours, which Flux's API refuses there; write minutes")
        return {
            **self.options,
            "timeout": TIMEOUT if timeout is None else timeout,
            "ignore": spec.raw_text("ignore"),
            "dialect": Dialect.FLUX,
        }
