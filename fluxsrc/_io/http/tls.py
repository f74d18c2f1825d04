"""TLS contexts from `TLSConfig`: the system's trust, more CAs on top, a client certificate from memory."""

import os
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING

from fluxsrc._lazy import later
from fluxsrc.auth import TLSConfig
from fluxsrc.errors import ConfigurationError

if TYPE_CHECKING:
    import tempfile

    import certifi
else:  # for systems without a trust store of their own, and without files in memory
    certifi, tempfile = later("certifi"), later("tempfile")

__all__ = ["tls_context"]


def tls_context(config: TLSConfig) -> ssl.SSLContext:
    """The context for one client's connections.

    Raises:
        ConfigurationError: The PEM texts cannot be read, or key and certificate do not belong together.
    """
    if config.certificate is None or config.key is None:
        return _shared_context(config.ca, config.insecure_skip_verify, _trust_version())
    context = _context(config.ca, insecure=config.insecure_skip_verify)
    try:
        with _readable_once(f"{config.certificate.rstrip()}\n{config.key.reveal()}") as path:
            context.load_cert_chain(path, password=_refuse_passphrase)
    except (ssl.SSLError, ValueError, OSError):
        failed = True  # the library's text may quote the file: do not chain it
    else:
        failed = False
    if failed:
        raise ConfigurationError(
            "the client certificate and key cannot be used",
            hint="give PEM texts that belong together; the key must not be encrypted",
        )
    return context


@lru_cache(maxsize=16)
def _shared_context(ca: str | None, insecure: bool, _trust: tuple[int, ...]) -> ssl.SSLContext:
    # Loading the system's trust store takes some 10 ms, more than a whole poll. Contexts without a client key hold no
    # secret and are safe to share between threads; a changed trust store is another key of this cache.
    return _context(ca, insecure=insecure)


def _trust_version() -> tuple[int, ...]:
    """Changes when the system's trust store does."""
    paths = ssl.get_default_verify_paths()
    versions = []
    for path in (paths.cafile, paths.capath):
        try:
            versions.append(os.stat(path).st_mtime_ns if path else 0)
        except OSError:
            versions.append(0)
    return tuple(versions)


def _context(ca: str | None, *, insecure: bool) -> ssl.SSLContext:
    context = ssl.create_default_context()
    paths = ssl.get_default_verify_paths()
    if not paths.cafile and not paths.capath:  # a Python without a system store, as python.org's for macOS
        context.load_verify_locations(certifi.where())
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    if ca is not None:
        try:
            context.load_verify_locations(cadata=ca)
        except (ssl.SSLError, ValueError) as exc:
            raise ConfigurationError("the CA certificates cannot be read", hint="give PEM text") from exc
    if insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _refuse_passphrase() -> str:
    # Without this, OpenSSL would ask for it on the terminal, and wait.
    raise ValueError


@contextmanager
def _readable_once(pem: str) -> Iterator[str]:
    """A path that OpenSSL can read the text from, and that nobody can read afterwards.

    `ssl` takes private keys from files only. Where the kernel has anonymous memory files, none touches a disk.
    """
    if hasattr(os, "memfd_create") and os.path.isdir("/proc/self/fd"):
        fd = os.memfd_create("fluxsrc-pem", os.MFD_CLOEXEC)
        try:
            with os.fdopen(os.dup(fd), "w") as file:
                file.write(pem)
            yield f"/proc/self/fd/{fd}"
        finally:
            os.close(fd)
        return
    with tempfile.NamedTemporaryFile("w", prefix="fluxsrc-") as file:  # mode 0600, gone on leaving
        file.write(pem)
        file.flush()
        yield file.name
