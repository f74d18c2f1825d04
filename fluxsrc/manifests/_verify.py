"""`spec.verify`: whose signature a source has to have."""

from typing import Any

from fluxsrc.manifests._context import Context
from fluxsrc.manifests._fields import Fields
from fluxsrc.manifests._secrets import SecretData
from fluxsrc.signatures import CosignKeylessSignature, CosignKeySignature, GitSignature, TrustedRoot
from fluxsrc.signatures.notation import NotationSignature, TrustPolicy, TrustStore
from fluxsrc.verify import Policy

__all__ = ["git_policy", "oci_policy"]


def git_policy(spec: Fields, context: Context) -> GitSignature | None:
    """What has to be signed, and by whom."""
    verify = spec.fields("verify")
    if verify is None:
        return None
    with verify:
        mode = verify.choice("mode", "HEAD", "head", "Tag", "TagAndHEAD")
        secret = context.secret(verify, "secretRef")
        if secret is None:
            verify.refuse("secretRef", "is missing", hint="the Secret with the public keys")
        return GitSignature(secret.signers(), mode=mode)


def oci_policy(spec: Fields, context: Context) -> Policy[Any] | None:
    """Who has to have signed the manifest."""
    verify = spec.fields("verify")
    if verify is None:
        return None
    with verify:
        provider = verify.choice("provider", "cosign", "notation")
        secret = context.secret(verify, "secretRef")
        if provider == "notation":
            return _notation_policy(verify, secret, context)
        if secret is None:
            return _keyless_policy(verify, context)
        for other in ("matchOIDCIdentity", "trustedRootSecretRef"):
            if other in verify:
                context.warnings.append(f"{verify.place(other)}: without effect beside secretRef, which goes before it")
        verify.accept("matchOIDCIdentity", "trustedRootSecretRef")
        return CosignKeySignature(secret.cosign_keys())


def _keyless_policy(verify: Fields, context: Context) -> CosignKeylessSignature:
    """Who has to have signed with a certificate. Without a name that would be anybody, which is what it is in Flux."""
    identities = []
    for item in verify.items("matchOIDCIdentity"):
        with item:
            given = {name: item.need(name) for name in ("issuer", "subject")}
            for name, pattern in given.items():
                if not (pattern.startswith("^") and pattern.endswith("$")):
                    context.warnings.append(
                        f"{item.place(name)}: has to fit the whole name here; Flux finds it anywhere in it"
                    )
            identities.append(given)
    if not identities:
        verify.refuse(
            "matchOIDCIdentity",
            "is missing, and so is secretRef",
            hint="name issuer and subject, or a Secret with keys",
        )
    secret = context.secret(verify, "trustedRootSecretRef")
    root = TrustedRoot.bundled() if secret is None else TrustedRoot.parse(secret.need("trusted_root.json").encode())
    return CosignKeylessSignature.from_match_oidc_identity(identities, trusted_root=root)


def _notation_policy(verify: Fields, secret: SecretData | None, context: Context) -> NotationSignature:
    """A trust policy, and certificates for all of its trust stores: Flux tells them apart no more than the Secret does."""
    for other in ("matchOIDCIdentity", "trustedRootSecretRef"):
        if other in verify:
            context.warnings.append(f"{verify.place(other)}: without effect for notation")
    verify.accept("matchOIDCIdentity", "trustedRootSecretRef")
    if secret is None:
        verify.refuse("secretRef", "is missing", hint="the Secret with trustpolicy.json and the certificates")
    policy = TrustPolicy.parse(secret.need("trustpolicy.json"))
    return NotationSignature(policy, TrustStore.for_all(policy, secret.certificates()))
