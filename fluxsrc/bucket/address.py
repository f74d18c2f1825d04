"""From one line of text to a bucket and a prefix.

| URL | bucket | options |
|---|---|---|
| `s3://BUCKET/PREFIX` | `S3Bucket` | `endpoint`, `region`, `addressing`, `profile`, `anonymous` |
| `gs://BUCKET/PREFIX` | `GCSBucket` | `endpoint`, `anonymous` |
| `az://CONTAINER/PREFIX` | `AzureBucket` | `account`, `endpoint`, `anonymous` |
| `bucket+file:///DIRECTORY` | `LocalBucket` | `prefix`, `etags` |
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote

from fluxsrc._lazy import later
from fluxsrc.address import Address, flag
from fluxsrc.auth import Anonymous
from fluxsrc.bucket.protocol import Bucket
from fluxsrc.errors import ConfigurationError

if TYPE_CHECKING:
    from fluxsrc.bucket import aws, azure, gcs, local, s3
else:
    aws, azure, gcs, local, s3 = (later(f"fluxsrc.bucket.{name}") for name in ("aws", "azure", "gcs", "local", "s3"))

__all__ = ["SCHEMES", "bucket_of"]


def bucket_of(address: Address, options: Mapping[str, Any]) -> tuple[Bucket, dict[str, Any]]:
    """The bucket that an address names, and what it says about the source: `prefix`, `strip_prefix`.

    Args:
        address: A URL of this page, taken apart.
        options: Arguments of the bucket's class that no URL holds: `credentials`, `tls`, `proxy`, …

    Raises:
        ConfigurationError: The URL has options that its kind has not, or names no bucket.
    """
    make = _MAKERS.get(address.scheme)
    if make is None:
        raise ConfigurationError(f"no bucket has the scheme {address.scheme!r}", hint=f"known: {', '.join(_MAKERS)}")
    return make(address, dict(options))


def _s3(address: Address, options: dict[str, Any]) -> tuple[Bucket, dict[str, Any]]:
    given = address.take("endpoint", "region", "addressing", "profile", "anonymous", "strip_prefix")
    if "profile" in given:
        _credentials(options, aws.AWSProfile(given.pop("profile")))
    return _remote(s3.S3Bucket, address, given, options)


def _gs(address: Address, options: dict[str, Any]) -> tuple[Bucket, dict[str, Any]]:
    return _remote(gcs.GCSBucket, address, address.take("endpoint", "anonymous", "strip_prefix"), options)


def _az(address: Address, options: dict[str, Any]) -> tuple[Bucket, dict[str, Any]]:
    given = address.take("account", "endpoint", "anonymous", "strip_prefix")
    if "account" not in given and "account" not in options:
        raise ConfigurationError("az:// needs the storage account", hint="az://CONTAINER/PREFIX?account=NAME")
    return _remote(azure.AzureBucket, address, given, options)


def _local(address: Address, options: dict[str, Any]) -> tuple[Bucket, dict[str, Any]]:
    given = address.take("prefix", "etags", "strip_prefix")
    source = _of_source(given, given.pop("prefix", ""))
    return local.LocalBucket(unquote(address.location.removeprefix("//")), **_both(options, given)), source


def _remote(
    cls: Callable[..., Bucket], address: Address, given: dict[str, str], options: dict[str, Any]
) -> tuple[Bucket, dict[str, Any]]:
    name, _, prefix = address.location.removeprefix("//").partition("/")
    if not address.location.startswith("//") or not name or "@" in name or ":" in name:
        raise ConfigurationError(
            f"{address.scheme}:// needs the name of a bucket, and no user name or port",
            hint=f"{address.scheme}://BUCKET/PREFIX?endpoint=...",
        )
    source = _of_source(given, unquote(prefix))
    if flag(given.pop("anonymous", "false"), "anonymous"):
        _credentials(options, Anonymous())
    return cls(unquote(name), **_both(options, given)), source


def _of_source(given: dict[str, str], prefix: str) -> dict[str, Any]:
    strip = flag(given.pop("strip_prefix", "false"), "strip_prefix")
    return ({"prefix": prefix} if prefix else {}) | ({"strip_prefix": True} if strip else {})


def _credentials(options: dict[str, Any], credentials: "Anonymous | aws.AWSProfile") -> None:
    if "credentials" in options:
        raise ConfigurationError("credentials are given twice", hint="leave out all but one of them")
    options["credentials"] = credentials


def _both(options: Mapping[str, Any], given: Mapping[str, str]) -> dict[str, Any]:
    """Options from beside the URL, and from within it."""
    for name in given:
        if name in options:
            raise ConfigurationError(f"{name} is given twice, in the URL and beside it", hint="leave out one of them")
    return {**options, **given}


_MAKERS: Final[Mapping[str, Callable[[Address, dict[str, Any]], tuple[Bucket, dict[str, Any]]]]] = {
    "s3": _s3,
    "gs": _gs,
    "az": _az,
    "bucket+file": _local,
}
SCHEMES: Final = tuple(_MAKERS)
"""The schemes that `bucket_of` knows."""
