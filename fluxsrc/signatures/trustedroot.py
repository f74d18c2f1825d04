"""`TrustedRoot`: which certificate authorities, transparency logs and timestamp authorities keyless signatures may lean on."""

import datetime as dt
import hashlib
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

import attrs

from fluxsrc.digest import Digest
from fluxsrc.errors import ConfigurationError, MissingExtraError, TransportError

if TYPE_CHECKING:
    from sigstore.models import TrustedRoot as SigstoreTrustedRoot
    from sigstore_models.common.v1 import TimeRange
    from sigstore_models.trustroot.v1 import TrustedRoot as _Model

__all__ = ["TrustedRoot", "embedded"]

_PUBLIC_GOOD: Final = "https://tuf-repo-cdn.sigstore.dev"
_TARGET: Final = "trusted_root.json"
_MAX_BYTES: Final = 1024 * 1024


@attrs.frozen
class TrustedRoot:
    """The content of a `trusted_root.json`: what Sigstore's clients call by that name.

    Attributes:
        content: The file's bytes.
    """

    content: bytes = attrs.field(repr=lambda content: f"<sha256:{hashlib.sha256(content).hexdigest()}>")

    @property
    def digest(self) -> Digest:
        """Of the bytes."""
        return Digest.of(self.content)

    @classmethod
    def parse(cls, content: bytes) -> Self:
        """Check that these are a trusted root's bytes.

        Raises:
            ConfigurationError: They are not, or lack a certificate authority, a transparency log or a log of certificates.
            MissingExtraError: There is nothing to read them with.
        """
        root = cls(content)
        model = root.model()
        for services, name in (
            (model.certificate_authorities, "certificate authority"),
            (model.tlogs, "transparency log"),
            (model.ctlogs, "log of certificates"),
        ):
            if not services:
                raise ConfigurationError(f"the trusted root has no {name}, so nothing can be verified with it")
        try:
            whole = root.narrowed((), ())
            _ = whole.get_fulcio_certs(), whole.get_timestamp_authorities()
        except Exception as exc:  # what may be wrong with keys and certificates is the library's business
            raise ConfigurationError(f"the trusted root cannot be used: {exc}") from exc
        return root

    @classmethod
    def from_file(cls, path: str | os.PathLike[str]) -> Self:
        """Read a `trusted_root.json`.

        Raises:
            ConfigurationError: It cannot be read, or is none.
            MissingExtraError: There is nothing to read it with.
        """
        try:
            content = Path(path).read_bytes()
        except OSError as exc:
            raise ConfigurationError(f"cannot read the trusted root {os.fspath(path)}: {exc.strerror}") from exc
        if len(content) > _MAX_BYTES:
            raise ConfigurationError(f"{os.fspath(path)} is larger than any trusted root")
        return cls.parse(content)

    @classmethod
    def bundled(cls) -> Self:
        """The public instance's (sigstore.dev), as it came with the installed version of the `sigstore` package.

        It ages with that package: logs and authorities that were added later are not in it. No request is made.

        Raises:
            MissingExtraError: The package is not installed.
        """
        return cls.parse(embedded(_TARGET))

    @classmethod
    def refresh(
        cls,
        cache: str | os.PathLike[str],
        *,
        url: str = _PUBLIC_GOOD,
        root: str | os.PathLike[str] | None = None,
    ) -> Self:
        """Fetch the current one from a TUF repository. The only thing here that makes requests; no policy does it by itself.

        Args:
            cache: A directory for TUF's metadata and the targets. What is in it guards against rollback: keep it.
            url: The repository; the public instance's unless given.
            root: TUF's `root.json` that is trusted to begin with; not needed for the public instance.

        Raises:
            ConfigurationError: Another repository is named, but no root; or what comes is not a trusted root.
            TransportError: The repository could not be asked, or what it says is not signed as it should be, or too old.
            MissingExtraError: There is nothing to ask with.
        """
        try:
            from tuf.api.exceptions import DownloadError, RepositoryError  # noqa: PLC0415 - an extra
            from tuf.ngclient.updater import Updater  # noqa: PLC0415
        except ImportError as exc:
            raise MissingExtraError("asking a TUF repository", extra="verify") from exc
        if root is not None:
            try:
                bootstrap = Path(root).read_bytes()
            except OSError as exc:
                raise ConfigurationError(f"cannot read TUF's root {os.fspath(root)}: {exc.strerror}") from exc
        elif url.rstrip("/") == _PUBLIC_GOOD:
            bootstrap = embedded("root.json")
        else:
            raise ConfigurationError(f"nothing says what to trust of {url}", hint="root='root.json'")
        metadata, targets = Path(cache) / "metadata", Path(cache) / "targets"
        base = url.rstrip("/")
        try:
            metadata.mkdir(parents=True, exist_ok=True)
            targets.mkdir(exist_ok=True)
            updater = Updater(
                metadata_dir=str(metadata),
                metadata_base_url=base,
                target_base_url=f"{base}/targets/",
                target_dir=str(targets),
                bootstrap=bootstrap,
            )
            updater.refresh()
            info = updater.get_targetinfo(_TARGET)
            if info is None:
                raise ConfigurationError(f"{base} has no {_TARGET}")
            path = updater.find_cached_target(info) or updater.download_target(info)
        except (DownloadError, RepositoryError, OSError, ValueError) as exc:
            if isinstance(exc, ConfigurationError):
                raise
            raise TransportError(f"cannot refresh the trusted root: {type(exc).__name__}: {exc}", url=base) from exc
        return cls.from_file(path)

    def model(self) -> "_Model":
        """The content, parsed by the library.

        Raises:
            ConfigurationError: It is not a trusted root.
            MissingExtraError: There is nothing to read it with.
        """
        try:
            from sigstore_models.trustroot.v1 import TrustedRoot as Model  # noqa: PLC0415 - an extra
        except ImportError as exc:
            raise MissingExtraError("reading a Sigstore trusted root", extra="verify") from exc
        try:
            return Model.from_json(self.content)
        except ValueError as exc:
            raise ConfigurationError(f"not a Sigstore trusted root: {_reason(exc)}") from exc

    def narrowed(self, signed: Iterable[dt.datetime], issued: Iterable[dt.datetime]) -> "SigstoreTrustedRoot":
        """What of it was in use at some times, for the library to verify with.

        The library itself takes each key for good for ever; but a log's key that leaked after it was retired must not vouch
        for anything new.

        Args:
            signed: When the signature was made, for certificate authorities and transparency logs.
            issued: When its certificate was logged, for the logs of certificates.
        """
        from sigstore.models import TrustedRoot as SigstoreTrustedRoot  # noqa: PLC0415 - an extra

        model = self.model()
        at_signing, at_issue = _in_use(signed), _in_use(issued)
        return SigstoreTrustedRoot(
            model.model_copy(
                update={
                    "certificate_authorities": [
                        item for item in model.certificate_authorities if at_signing(item.valid_for)
                    ],
                    "tlogs": [item for item in model.tlogs if at_signing(item.public_key.valid_for)],
                    "ctlogs": [item for item in model.ctlogs if at_issue(item.public_key.valid_for)],
                }
            )
        )


def _reason(error: ValueError) -> str:
    """The first thing that is wrong; the whole text of pydantic, which raises it, quotes the data and has links."""
    listed: Callable[[], list[Any]] = getattr(error, "errors", list)
    for first in listed():
        return ": ".join(filter(None, (".".join(map(str, first["loc"])), str(first["msg"]))))[:300]
    return str(error)[:300]


def _in_use(moments: Iterable[dt.datetime]) -> "Callable[[TimeRange | None], bool]":
    times = tuple(moments)

    def check(period: "TimeRange | None") -> bool:
        start = None if period is None else period.start
        end = None if period is None else period.end
        return all((start is None or start <= time) and (end is None or time <= end) for time in times)

    return check


def embedded(name: str) -> bytes:
    """A file of the public instance's, as it came with the `sigstore` package.

    Raises:
        MissingExtraError: The package is not installed.
    """
    try:
        from sigstore._utils import read_embedded  # noqa: PLC0415 - nothing public gives it without a cache
    except ImportError as exc:
        raise MissingExtraError("Sigstore's own trusted root", extra="verify") from exc
    return read_embedded(name, _PUBLIC_GOOD)
