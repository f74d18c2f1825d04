"""Where a service is, as a URL, and as part of one."""

from urllib.parse import quote, urlsplit

from fluxsrc.auth import Anonymous
from fluxsrc.errors import ConfigurationError

__all__ = ["anonymous", "bucket_url", "endpoint_url"]


def endpoint_url(value: str | None) -> str | None:
    """An endpoint in its one form: scheme, host, port, path without a slash at its end.

    >>> endpoint_url("minio.example:9000/")
    'https://minio.example:9000'

    Raises:
        ConfigurationError: It is none, or holds credentials.
    """
    if value is None:
        return None
    try:
        parts = urlsplit(value if "://" in value else f"https://{value}")
        plain = parts.hostname and "@" not in parts.netloc and not parts.query and not parts.fragment
        valid = plain and parts.scheme in ("http", "https") and parts.port != 0
    except ValueError:
        valid = False
    if not valid:
        # The text is not quoted: what does not belong there is mostly a password or a signature.
        raise ConfigurationError("an endpoint is http[s]://HOST[:PORT], without user name, password and query")
    return f"{parts.scheme}://{parts.netloc.lower()}{parts.path.rstrip('/')}"


def anonymous(credentials: object) -> str | None:
    """The option of a bucket that nobody logs in to."""
    return "true" if isinstance(credentials, Anonymous) else None


def bucket_url(scheme: str, name: str, **options: str | None) -> str:
    """`SCHEME://NAME?OPTION=…`, with the options that are not None."""
    query = "&".join(f"{key}={quote(value, safe=':/')}" for key, value in options.items() if value is not None)
    return f"{scheme}://{quote(name)}" + (f"?{query}" if query else "")
