"""Progress bars on a terminal, from the reports of an `Operation`."""

import contextlib
from collections.abc import Callable, Iterator

from fluxsrc.cli.render import size, visible
from fluxsrc.operation import Progress

__all__ = ["showing_progress"]


@contextlib.contextmanager
def showing_progress() -> Iterator[Callable[[Progress], None]]:
    """A callback for `Operation.progress` that draws one bar for each phase on stderr, and wipes them in the end."""
    from rich.console import Console  # noqa: PLC0415 - slow to import, and needed on a terminal only
    from rich.progress import BarColumn, SpinnerColumn, TextColumn  # noqa: PLC0415
    from rich.progress import Progress as Bars  # noqa: PLC0415

    bars = Bars(
        SpinnerColumn(),
        TextColumn("{task.description:<10}"),
        BarColumn(bar_width=24),
        TextColumn("{task.fields[amount]}"),
        TextColumn("{task.fields[detail]}", style="dim", markup=False),  # a path is no markup, whatever is in it
        console=Console(stderr=True),
        transient=True,
    )
    tasks = {}

    def report(progress: Progress) -> None:
        if progress.phase not in tasks:
            tasks[progress.phase] = bars.add_task(progress.phase, total=None, amount="", detail="")
        bars.update(
            tasks[progress.phase],
            completed=progress.done,
            total=progress.total,
            amount=_amount(progress),
            detail=visible(progress.detail[-60:]),
        )

    with bars:
        yield report


def _amount(progress: Progress) -> str:
    show = size if progress.unit == "bytes" else lambda count: f"{count:,}"
    of = "" if progress.total is None else f" of {show(progress.total)}"
    return f"{show(progress.done)}{of}" + ("" if progress.unit == "bytes" else f" {progress.unit}")
