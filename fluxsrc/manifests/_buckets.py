"""From the `spec` of a Bucket to a source."""

import re
from typing import Any, Final

from fluxsrc.auth import Anonymous, TLSConfig
from fluxsrc.bucket import (
    AWSDefaultChain,
    AWSKeys,
    AzureAccountKey,
    AzureBucket,
    AzureClientCertificate,
    AzureClientSecret,
    AzureDefaultCredential,
    AzureManagedIdentity,
    AzureSAS,
    Bucket,
    BucketSource,
    GCSBucket,
    GoogleDefaultCredentials,
    GoogleServiceAccount,
    LDAPIdentity,
    S3Bucket,
)
from fluxsrc.errors import ConfigurationError
from fluxsrc.manifests._context import IDENTITY_HINT, NO_IDENTITY, Context
from fluxsrc.manifests._fields import Fields
from fluxsrc.manifests._secrets import SecretData
from fluxsrc.source import Source

__all__ = ["bucket"]

_AWS: Final = re.compile(r"(?:s3[.-](?:dualstack\.)?([a-z0-9-]+)|s3)\.amazonaws\.com(?:\.cn)?")
_TOKEN_SERVICES: Final = {"aws": "aws", "generic": "ldap"}
"""By the provider of a bucket, the one of the service that lends keys for it."""
_TRUE: Final = frozenset({"1", "true"})


def bucket(spec: Fields, context: Context) -> Source:
    """A Bucket."""
    provider = spec.choice("provider", "generic", "aws", "gcp", "azure")
    spec.unsupported("serviceAccountName", NO_IDENTITY, hint=IDENTITY_HINT)
    spec.unsupported("accessFrom", "Flux never implemented it")
    secret, lender = context.secret(spec, "secretRef"), _lender(spec, provider, context)
    if secret is not None and lender is not None:
        context.warnings.append(f"{spec.place('sts')}: without effect beside secretRef, which goes before it")
    certificates = context.secret(spec, "certSecretRef")
    access = {"tls": TLSConfig() if certificates is None else certificates.tls(), "proxy": context.proxy(spec)}
    match provider:
        case "gcp":
            made = _gcs(spec, secret, access)
        case "azure":
            made = _azure(spec, secret, access)
        case _:
            made = _s3(spec, secret, lender or (AWSDefaultChain() if provider == "aws" else Anonymous()), access)
    return BucketSource(made, spec.text("prefix") or "", **context.common(spec))


def _lender(spec: Fields, provider: str, context: Context) -> AWSDefaultChain | LDAPIdentity | None:
    """`sts`: another service that lends keys."""
    sts = spec.fields("sts")
    if sts is None:
        return None
    with sts:
        kind, endpoint = sts.need("provider"), sts.need("endpoint")
        wanted = _TOKEN_SERVICES.get(provider)
        if kind != wanted:
            hint = f"{wanted} is" if wanted else "leave sts out"
            sts.refuse("provider", f"{kind[:80]!r} is none for the bucket provider {provider}", hint=hint)
        if sts.url("endpoint").scheme not in ("http", "https"):
            sts.refuse("endpoint", "must begin with https:// or http://")
        if kind == "aws":
            for field in ("secretRef", "certSecretRef"):
                sts.unsupported(field, "is not for the provider aws, whose chain finds what it needs by itself")
            return AWSDefaultChain(sts_endpoint=endpoint)
        secret, certificates = context.secret(sts, "secretRef"), context.secret(sts, "certSecretRef")
        if secret is None:
            sts.refuse("secretRef", "is missing", hint="the Secret with username and password")
        return LDAPIdentity(
            endpoint=endpoint,
            username=secret.need("username"),
            password=secret.need("password"),
            tls=TLSConfig() if certificates is None else certificates.tls(),
        )


def _s3(spec: Fields, secret: SecretData | None, unless_given: Any, access: dict[str, Any]) -> Bucket:
    endpoint, region = spec.need("endpoint"), spec.text("region")
    if "://" in endpoint:
        spec.refuse("endpoint", "is HOST[:PORT], without a scheme", hint="insecure: true means plain HTTP")
    insecure = spec.flag("insecure")
    aws = _AWS.fullmatch(endpoint)
    given = None if secret is None else AWSKeys(secret.need("accesskey"), secret.need("secretkey"))
    return S3Bucket(
        spec.need("bucketName"),
        endpoint=None if aws and not insecure else f"{'http' if insecure else 'https'}://{endpoint}",
        region=region or (aws[1] if aws else None),
        credentials=given or unless_given,
        **access,
    )


def _gcs(spec: Fields, secret: SecretData | None, access: dict[str, Any]) -> Bucket:
    spec.accept("endpoint", "region", "insecure")  # Google's own is asked whatever they say; so it is in Flux
    credentials = GoogleDefaultCredentials() if secret is None else GoogleServiceAccount(secret.need("serviceaccount"))
    return GCSBucket(spec.need("bucketName"), credentials=credentials, **access)


def _azure(spec: Fields, secret: SecretData | None, access: dict[str, Any]) -> Bucket:
    spec.accept("region", "insecure")
    endpoint = spec.need("endpoint")
    parts = spec.url("endpoint")
    if not parts.hostname or parts.scheme not in ("http", "https"):
        spec.refuse("endpoint", "must be https://ACCOUNT.blob.core.windows.net")
    # An emulator's account is the first part of the path, the cloud's is the first part of the host.
    account = parts.path.strip("/").partition("/")[0] or parts.hostname.partition(".")[0]
    return AzureBucket(
        spec.need("bucketName"),
        account=account,
        endpoint=endpoint,
        credentials=AzureDefaultCredential() if secret is None else _azure_credentials(secret),
        **access,
    )


def _azure_credentials(secret: SecretData) -> Any:
    """In Flux's order: a service principal by secret, by certificate; a managed identity; the account's key; a SAS token."""
    tenant, client, authority = secret.get("tenantId"), secret.get("clientId"), secret.get("authorityHost")
    if tenant and client and (password := secret.get("clientSecret")):
        return AzureClientSecret(tenant_id=tenant, client_id=client, client_secret=password, authority_host=authority)
    if tenant and client and (certificate := secret.get("clientCertificate")):
        return AzureClientCertificate(
            tenant_id=tenant,
            client_id=client,
            certificate=certificate,
            password=secret.get("clientCertificatePassword"),
            send_chain=(secret.get("clientCertificateSendChain") or "").lower() in _TRUE,
            authority_host=authority,
        )
    if client:
        return AzureManagedIdentity(client)
    if (key := secret.get("accountKey")) is not None:
        return AzureAccountKey(key)
    if (token := secret.get("sasKey")) is not None:
        return AzureSAS(token)
    raise ConfigurationError(
        f"{secret.reference} has no credentials for Azure",
        hint="accountKey, sasKey, clientId, or tenantId with clientId and clientSecret or clientCertificate",
    )
