"""Where results go: text to standard output or a file, tables to the terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from derivations.cli.refusal import CommandRefused

WIDTH_WITHOUT_TERMINAL = 160


def deliver(text: str, path: Path | None) -> None:
    """Write text to a file, or to standard output if there is no path.

    Raises:
        CommandRefused: the file cannot be written.
    """
    if path is None:
        sys.stdout.write(text.rstrip("\n") + "\n")
        return
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise CommandRefused(
            f"-o needs a writable file, and {path} is none ({error.strerror}); choose another."
        ) from None


def show_table(title: str, header: Sequence[str], rows: Iterable[Sequence[str]], *, wrap: int = 0) -> None:
    """Print a table; columns from number `wrap` on may break lines.

    Args:
        title: above the table.
        header: names of the columns.
        rows: cells as text.
        wrap: first column that may break lines.
    """
    if title:
        sys.stdout.write(title + "\n")
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for number, name in enumerate(header):
        table.add_column(name, overflow="fold", no_wrap=number < wrap)
    for row in rows:
        table.add_row(*(cell.replace("[", "\\[") for cell in row))
    console().print(table)


def console() -> Console:
    """Return a console on standard output, wide where no terminal says how wide it is."""
    return Console(width=None if sys.stdout.isatty() else WIDTH_WITHOUT_TERMINAL)


def tell(sentence: str) -> None:
    """Say on standard error what was done, so that standard output holds results alone."""
    sys.stderr.write(sentence + "\n")
