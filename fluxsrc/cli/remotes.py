"""How remotes are reached, and which sources are meant: the options about that, and what they make."""

import functools
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Final, NamedTuple

import attrs
import click

from fluxsrc.auth import Proxy, TLSConfig
from fluxsrc.cli.asked import Asked, verify_options
from fluxsrc.cli.options import recipe_options, timeout_option
from fluxsrc.cli.paths import Place
from fluxsrc.cli.sections import connection_option, content_option
from fluxsrc.errors import ConfigurationError
from fluxsrc.source import Source
from fluxsrc.urls import address_of, source_from_url, source_options

__all__ = ["Remotes", "SourceMaker", "makes_sources", "remote_options", "takes_source"]

Decorated = Callable[..., Any]

_FLAGS: Final = {
    "keychain": "--auth",
    "tls": "--ca-file or --cert-file",
    "proxy": "--proxy",
    "insecure": "--insecure",
    "sparse": "--sparse",
    "lfs": "--lfs",
    "submodules": "--submodules",
    "verify": "--verify-key",
}
"""What an option of a source is called on the command line."""


class Remotes(NamedTuple):
    """How the remotes of one command are reached.

    Attributes:
        auth: Ways to find credentials, in order.
        ca_file: Certificates to trust besides the system's.
        cert_file: Our client certificate.
        key_file: Its key.
        proxy: For all connections: a URL, or "env" for what the environment says about each host.
        proxy_auth: How to find the proxy's credentials.
        insecure: Registries by plain HTTP.
    """

    auth: tuple[str, ...] = ()
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    proxy: str | None = None
    proxy_auth: str | None = None
    insecure: bool = False

    def options(self, url: str, *, beside: Sequence[str] = ()) -> dict[str, Any]:
        """Those that were given, as the library's sources and `fluxsrc.oci.Access` take them.

        Args:
            url: What is reached.
            beside: What the same command reaches besides.
        """
        options: dict[str, Any] = {}
        if self.auth:
            # Loaded on use: keychains bring an HTTP client along, and most commands ask for none.
            credentials = import_module("fluxsrc.cli.credentials")
            options["keychain"] = credentials.keychain_for(url, self.auth, beside=beside, insecure=self.insecure)
        if self.ca_file or self.cert_file or self.key_file:
            options["tls"] = TLSConfig(
                ca=_read(self.ca_file), certificate=_read(self.cert_file), key=_read(self.key_file)
            )
        if (proxy := self._proxy(url)) is not None:
            options["proxy"] = proxy
        if self.insecure:
            options["insecure"] = True
        return options

    def _proxy(self, url: str) -> Proxy | None:
        if self.proxy is None:
            if self.proxy_auth is not None:
                raise ConfigurationError("credentials for which proxy?", hint="give --proxy URL")
            return None
        credentials = import_module("fluxsrc.cli.credentials")
        if self.proxy != "env":
            found: Proxy = credentials.proxy_for(self.proxy, self.proxy_auth)
            return found
        if self.proxy_auth is not None:
            raise ConfigurationError("the environment names the proxy with its credentials", hint="drop --proxy-auth")
        origin = credentials.origin_of(url, insecure=self.insecure)
        return None if origin is None else Proxy.from_env(origin)


def _read(file: Path | None) -> str | None:
    if file is None:
        return None
    try:
        return file.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError) as exc:
        why = exc.strerror if isinstance(exc, OSError) else "it is not PEM"
        raise ConfigurationError(f"cannot read {file}: {why}") from exc


@attrs.frozen(kw_only=True, eq=False, repr=False)
class SourceMaker:
    """Makes the sources of one command; an option that nothing in the command takes is refused, never ignored.

    Attributes:
        remotes: How they are reached.
        own: Options of the sources: their recipe, their timeout, and what only some kinds know.
        asked: What has to hold of them; see `fluxsrc.cli.asked`.
    """

    remotes: Remotes
    own: Mapping[str, Any]
    asked: Asked = attrs.field(factory=Asked)

    def refuse_policy(self, what: str) -> None:
        """A policy judges where something comes from; what a store holds was judged when it was made.

        Raises:
            ConfigurationError: There is one, and it would be passed over.
        """
        if self.asked.flags:
            raise ConfigurationError(f"{what} is in the store, and no source that a policy could be held against")

    def __call__(self, url: str, *, beside: Sequence[str] = ()) -> Source:
        """The source of a URL.

        Args:
            url: The URL.
            beside: What else the command reaches: credentials must not go to the wrong one.

        Raises:
            ConfigurationError: The URL is none, or an option is not one for it.
        """
        takes = source_options(url)
        options = {**self.own, **self.remotes.options(url, beside=beside)}
        for name in options.keys() - takes:
            if not any(name in source_options(other) for other in beside):
                raise ConfigurationError(
                    f"{address_of(url).scheme} sources take no {_FLAGS[name]}", hint="leave it out: it changes nothing"
                )
        if self.asked.flags:
            policies = import_module("fluxsrc.cli.policies")  # on use: most commands ask for none
            options["verify"] = policies.policy_for(url, self.asked)
        return source_from_url(url, **{name: value for name, value in options.items() if name in takes})


_pem: Final = Place(dir_okay=False, path_type=Path)


def remote_options(command: Decorated) -> Decorated:
    """`--auth`, `--insecure`, and what is about TLS and proxies. The command is given `remotes`."""

    @functools.wraps(command)
    def with_remotes(*args: Any, **kwargs: Any) -> Any:
        remotes = Remotes(**{name: kwargs.pop(name) for name in Remotes._fields})
        return command(*args, remotes=remotes, **kwargs)

    for option in (
        connection_option(
            "--insecure", is_flag=True, help="Reach registries by plain HTTP. Never tried unless it is said."
        ),
        connection_option(
            "--proxy-auth",
            metavar="METHOD",
            help="Where the proxy's user name and password come from: env[:PREFIX], netrc[:FILE], git:HELPER.",
        ),
        connection_option(
            "--proxy",
            metavar="URL|env",
            help="A proxy for all connections: http, https, socks5 or socks5h; or what https_proxy, no_proxy, … say.",
        ),
        connection_option("--key-file", type=_pem, help="The PEM private key of --cert-file."),
        connection_option("--cert-file", type=_pem, help="A PEM certificate that proves who we are."),
        connection_option(
            "--ca-file",
            type=_pem,
            help="PEM certificates to trust besides the system's.",
        ),
        connection_option(
            "--auth",
            multiple=True,
            metavar="METHOD",
            help="Where credentials may come from: env, netrc[:FILE], git:HELPER, docker[:FILE], ecr, google, azure. "
            "Repeatable; none is used unnamed.",
        ),
    ):
        with_remotes = option(with_remotes)
    return with_remotes


def makes_sources(command: Decorated) -> Decorated:
    """All options of a source. The command is given `make_source`, `remotes` and `timeout`."""

    @functools.wraps(command)
    def with_maker(
        *args: Any,
        remotes: Remotes,
        recipe: dict[str, Any],
        timeout: float,
        sparse: tuple[str, ...],
        lfs: str | None,
        submodules: bool,
        asked: Asked,
        **kwargs: Any,
    ) -> Any:
        of_git = {"sparse": sparse, "lfs": lfs, "submodules": submodules}
        given = {name: value for name, value in of_git.items() if value}
        maker = SourceMaker(remotes=remotes, own=recipe | {"timeout": timeout} | given, asked=asked)
        return command(*args, make_source=maker, remotes=remotes, timeout=timeout, **kwargs)

    sparse = content_option(
        "--sparse", multiple=True, metavar="PATH", help="Git: only this directory or file. Repeatable."
    )
    lfs = content_option(
        "--lfs", type=click.Choice(("keep", "error", "fetch")), help="Git: what becomes of LFS pointers."
    )
    submodules = content_option(
        "--submodules", is_flag=True, help="Git: with submodules, each as the commit it is pinned to."
    )
    return remote_options(verify_options(sparse(lfs(submodules(timeout_option(recipe_options(with_maker)))))))


def takes_source(command: Decorated) -> Decorated:
    """The argument URL and all options of a source. The command is given `source` and `timeout`."""

    @functools.wraps(command)
    def with_source(*args: Any, url: str, make_source: SourceMaker, remotes: Remotes, **kwargs: Any) -> Any:
        del remotes
        return command(*args, source=make_source(url), **kwargs)

    return click.argument("url")(makes_sources(with_source))
