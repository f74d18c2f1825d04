"""Object stores: Amazon S3 and what speaks like it, Google Cloud Storage, Azure Blob Storage, a directory."""

from fluxsrc.bucket.keys import AmbiguousKeys, UnsafeKeys
from fluxsrc.bucket.local import Etags, LocalBucket
from fluxsrc.bucket.protocol import Bucket, BucketClient, BucketObject, Content
from fluxsrc.bucket.source import BucketSource

__all__ = [
    "AmbiguousKeys",
    "Bucket",
    "BucketClient",
    "BucketObject",
    "BucketSource",
    "Content",
    "Etags",
    "LocalBucket",
    "UnsafeKeys",
]
