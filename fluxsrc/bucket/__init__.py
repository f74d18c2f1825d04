"""Object stores: Amazon S3 and what speaks like it, Google Cloud Storage, Azure Blob Storage, a directory."""

from typing import TYPE_CHECKING

from fluxsrc._lazy import names_of

if TYPE_CHECKING:
    from fluxsrc.bucket.address import SCHEMES
    from fluxsrc.bucket.aws import AWSDefaultChain, AWSProfile, AWSRole, AWSWebIdentity
    from fluxsrc.bucket.azure import AzureBucket
    from fluxsrc.bucket.gcs import GCSBucket
    from fluxsrc.bucket.google import GoogleDefaultCredentials, GoogleServiceAccount
    from fluxsrc.bucket.keys import AmbiguousKeys, UnsafeKeys
    from fluxsrc.bucket.ldap import LDAPIdentity
    from fluxsrc.bucket.local import Etags, LocalBucket
    from fluxsrc.bucket.microsoft import (
        AzureAccountKey,
        AzureClientCertificate,
        AzureClientSecret,
        AzureDefaultCredential,
        AzureManagedIdentity,
        AzureSAS,
    )
    from fluxsrc.bucket.protocol import Batch, BatchReader, Bucket, BucketClient, BucketObject, Content, LevelLister
    from fluxsrc.bucket.s3 import Addressing, S3Bucket
    from fluxsrc.bucket.sigv4 import AWSKeys
    from fluxsrc.bucket.source import BucketSource
else:
    __getattr__, __dir__ = names_of(
        __name__,
        {
            "AWSDefaultChain": "aws",
            "AWSKeys": "sigv4",
            "AWSProfile": "aws",
            "AWSRole": "aws",
            "AWSWebIdentity": "aws",
            "Addressing": "s3",
            "AmbiguousKeys": "keys",
            "AzureAccountKey": "microsoft",
            "AzureBucket": "azure",
            "AzureClientCertificate": "microsoft",
            "AzureClientSecret": "microsoft",
            "AzureDefaultCredential": "microsoft",
            "AzureManagedIdentity": "microsoft",
            "AzureSAS": "microsoft",
            "Batch": "protocol",
            "BatchReader": "protocol",
            "Bucket": "protocol",
            "BucketClient": "protocol",
            "BucketObject": "protocol",
            "BucketSource": "source",
            "Content": "protocol",
            "Etags": "local",
            "GCSBucket": "gcs",
            "GoogleDefaultCredentials": "google",
            "GoogleServiceAccount": "google",
            "LDAPIdentity": "ldap",
            "LevelLister": "protocol",
            "LocalBucket": "local",
            "S3Bucket": "s3",
            "SCHEMES": "address",
            "UnsafeKeys": "keys",
        },
    )

__all__ = [
    "SCHEMES",
    "AWSDefaultChain",
    "AWSKeys",
    "AWSProfile",
    "AWSRole",
    "AWSWebIdentity",
    "Addressing",
    "AmbiguousKeys",
    "AzureAccountKey",
    "AzureBucket",
    "AzureClientCertificate",
    "AzureClientSecret",
    "AzureDefaultCredential",
    "AzureManagedIdentity",
    "AzureSAS",
    "Batch",
    "BatchReader",
    "Bucket",
    "BucketClient",
    "BucketObject",
    "BucketSource",
    "Content",
    "Etags",
    "GCSBucket",
    "GoogleDefaultCredentials",
    "GoogleServiceAccount",
    "LDAPIdentity",
    "LevelLister",
    "LocalBucket",
    "S3Bucket",
    "UnsafeKeys",
]
