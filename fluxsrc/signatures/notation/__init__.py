"""Signatures of the Notary Project, as `notation` makes them: envelopes in JWS and COSE, certificate chains, trust policies."""

from fluxsrc.signatures.notation.chain import RevocationList
from fluxsrc.signatures.notation.policy import NotationSignature, TrustStore
from fluxsrc.signatures.notation.trustpolicy import TrustPolicy

__all__ = ["NotationSignature", "RevocationList", "TrustPolicy", "TrustStore"]
