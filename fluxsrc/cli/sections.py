"""Help in sections: first what is a command's own, then what it shares with others, under titles."""

import functools
from collections.abc import Callable
from typing import Any, Final, TypeVar

import click

__all__ = ["command", "connection_option", "content_option", "signing_option", "verification_option"]

F = TypeVar("F", bound=Callable[..., Any])

_OWN: Final = "Options"
_URLS: Final = "URLs (more: fluxsrc --help)"
_REFERENCES: Final = "References"
_FORMS: Final = {
    _URLS: ("git+https://HOST/REPOSITORY?branch=main", "oci://HOST/REPOSITORY:TAG", "s3://BUCKET/PREFIX", "DIRECTORY"),
    _REFERENCES: ("oci://HOST/REPOSITORY[:TAG][@DIGEST]", "oci-layout:PATH[:NAME][@DIGEST]"),
}
_ARGUMENTS: Final = dict.fromkeys(("url", "what", "new"), _URLS) | dict.fromkeys(
    ("reference", "source", "destination"), _REFERENCES
)
"""What arguments are, by their names."""


class _Option(click.Option):
    """An option that is shown under a title."""

    def __init__(self, *args: Any, section: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.section = section


class _Command(click.Command):
    """A command whose help has a section for each title, in the order in which they come up; its own options come first."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        sections: dict[str, list[tuple[str, str]]] = {_OWN: []}
        for parameter in self.get_params(ctx):
            # Arguments are in the line above; newer versions of click would repeat them here.
            record = parameter.get_help_record(ctx) if isinstance(parameter, click.Option) else None
            if record is not None:
                sections.setdefault(getattr(parameter, "section", _OWN), []).append(record)
        for title, records in sections.items():
            with formatter.section(title):
                formatter.write_dl(records)

    def format_epilog(self, _: click.Context, formatter: click.HelpFormatter) -> None:
        arguments = [_ARGUMENTS.get(each.name or "") for each in self.params if isinstance(each, click.Argument)]
        for title in dict.fromkeys(filter(None, arguments)):
            with formatter.section(title):
                for form in _FORMS[title]:  # not wrapped: they are copied
                    formatter.write(f"{'':{formatter.current_indent}}{form}\n")


def command(name: str | None = None) -> Callable[[Callable[..., Any]], click.Command]:
    """A command, called like its function if no name is given."""
    return click.command(name, cls=_Command)


def _titled(section: str) -> Callable[..., Callable[[F], F]]:
    return functools.partial(click.option, cls=_Option, section=section)


connection_option: Final = _titled("Connection")
verification_option: Final = _titled("Verification")
signing_option: Final = _titled("Signing")
content_option: Final = _titled("Content")
