"""Paths as arguments."""

import os
from typing import Any

import click

__all__ = ["Place"]


class Place(click.Path):
    """A path that says something: an empty one is an unset variable of a script, and would be the working directory."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The path, if there is one."""
        if not os.fspath(value):
            self.fail("it is empty", param, ctx)
        return super().convert(value, param, ctx)
