"""Object stores: Amazon S3 and what speaks like it, Google Cloud Storage, Azure Blob Storage, a directory."""

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
