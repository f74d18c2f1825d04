"""`SignatureKind`: the names of what a policy about a registry can need. All that a source without one has to know of signatures."""

import enum
from collections.abc import Iterable

from fluxsrc.errors import ConfigurationError

__all__ = ["SignatureKind", "kinds_of"]


class SignatureKind(enum.StrEnum):
    """How a signature lies in a registry. The values are what a policy's `needs` says.

    - `COSIGN`: cosign's first layout. Below the tag `ALGORITHM-HEX.sig`, or as a referrer of the type
      `application/vnd.dev.cosign.artifact.sig.v1+json`, a manifest has a layer per signature: the simple-signing payload.
      Signature, certificate, chain and log entry are the layer's annotations `dev.cosignproject.cosign/signature`,
      `dev.sigstore.cosign/certificate`, `…/chain`, `…/bundle`, `…/rfc3161timestamp`.
    - `BUNDLE`: a Sigstore bundle (JSON) in a referrer; what cosign 3 writes.
    - `NOTATION`: a JWS or COSE envelope in a referrer.
    """

    COSIGN = "cosign"
    BUNDLE = "bundle"
    NOTATION = "notation"


def kinds_of(needs: Iterable[str]) -> frozenset[SignatureKind]:
    """The kinds that a policy needs.

    Raises:
        ConfigurationError: It needs what is no kind of signature in a registry.
    """
    names = set(needs)
    unknown = names - {kind.value for kind in SignatureKind}
    if unknown:
        raise ConfigurationError(f"an OCI repository has no {', '.join(sorted(unknown))} to verify")
    return frozenset(SignatureKind(name) for name in names)
