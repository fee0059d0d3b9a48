"""A progress bar on standard error for one simulation."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from derivations.cli.place import leads


def console() -> Console:
    """Return the console that bars are drawn on."""
    return Console(stderr=True)


@contextmanager
def progress_bar(title: str) -> Generator[Callable[[int, int], None], None, None]:
    """Show a bar while the block runs.

    Yields:
        The callable (step, steps) that moves it.
    """
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    screen = console()
    with Progress(*columns, console=screen, transient=True, disable=not (screen.is_terminal and leads())) as bar:
        task = bar.add_task(title, total=None)

        def move(step: int, steps: int) -> None:
            bar.update(task, completed=step, total=steps)

        yield move
