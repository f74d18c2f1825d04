"""Signatures of the Notary Project, as `notation` makes them: envelopes in JWS and COSE, certificate chains, trust policies."""

from fluxsrc.signatures.notation.policy import NotationSignature
from fluxsrc.signatures.notation.revocation import RevocationList
from fluxsrc.signatures.notation.trustpolicy import TrustPolicy
from fluxsrc.signatures.notation.truststore import TrustStore

__all__ = ["NotationSignature", "RevocationList", "TrustPolicy", "TrustStore"]
