"""Signatures of the Notary Project, as `notation` makes them: envelopes in JWS and COSE, certificate chains, trust policies."""

from fluxsrc.signatures.notation.names import DistinguishedName
from fluxsrc.signatures.notation.policy import NotationSignature
from fluxsrc.signatures.notation.revocation import RevocationList
from fluxsrc.signatures.notation.trustpolicy import Action, Statement, StoreKind, TrustPolicy, Validation
from fluxsrc.signatures.notation.truststore import TrustStore

__all__ = [
    "Action",
    "DistinguishedName",
    "NotationSignature",
    "RevocationList",
    "Statement",
    "StoreKind",
    "TrustPolicy",
    "TrustStore",
    "Validation",
]
