"""`centralflow sweep`: runs over a grid of settings, in several processes, with one summary page."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.progress import Progress

from derivations.cli.output import show_table, tell
from derivations.cli.refusal import CommandRefused
from derivations.cli.run_command import read_config
from derivations.cli.sweep import Cell, Sweep, cells, is_complete

if TYPE_CHECKING:
    from numerics.records import Run

OWN = ("--config", "--out", "--jobs", "--help")
NOT_HERE = ("--resume",)
# Figures on the summary page, by their label in a run's headline table; the rest is in the cell's own report.
FIGURES = (
    "edge E: first step, stop",
    "midpoint top eigenvalue / λ*, mean over E",
    "predicted loss, relative error",
    "deviation explained, last step of E",
    "deviation explained, least in 2nd half of E",
    "critical modes, most at once",
    "cost, gradients per step",
)


def add_arguments(parser: argparse.ArgumentParser, argv: Sequence[str]) -> None:
    """Declare the arguments; every flag of `run` may be given, and is not looked at here: each cell checks its own.

    Raises:
        CommandRefused: for a flag that each cell gets by itself.
    """
    parser.usage = (
        "centralflow sweep [--config FILE.toml] [--out FOLDER] [--jobs N] [--FLAG-OF-RUN VALUE [VALUE ...] ...]"
    )
    parser.description = (
        f"{parser.description} Any flag of `centralflow run` takes several values here, and every combination is a run. A TOML file "
        "holds the same keys with lists of values; what it has under [[grid]] is a grid of its own on top of them. The same "
        "command goes on with a sweep that was ended."
    )
    parser.add_argument("--config", type=Path, metavar="FILE.toml", help="grid of settings; flags replace its keys")
    parser.add_argument(
        "--out", type=Path, default=Path("runs/sweep"), metavar="FOLDER", help="where the runs go (default runs/sweep)"
    )
    parser.add_argument("--jobs", type=_positive, default=1, metavar="N", help="runs at a time (default 1)")
    given = [a.partition("=")[0] for a in argv if a.startswith("--")]
    for flag in dict.fromkeys(f for f in given if f not in OWN):
        if flag in NOT_HERE:
            raise CommandRefused(f"a sweep goes on by itself where it was ended: leave {flag} out.")
        parser.add_argument(
            flag, dest=f"grid.{flag[2:].replace('-', '_')}", nargs="*", metavar="VALUE", help="of `run`"
        )


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {number}")
    return number


def execute(arguments: argparse.Namespace) -> None:
    """Run the cells, keep the summary page up to date, and print its table.

    Raises:
        CommandRefused: the folder cannot be written, or, at the end, some cells failed.
    """
    flags = {
        key.removeprefix("grid."): values or [True]
        for key, values in vars(arguments).items()
        if key.startswith("grid.") and values is not None
    }
    root: Path = arguments.out
    sweep = Sweep(cells(flags, read_config(arguments.config) if arguments.config else {}, root), arguments.jobs)
    try:
        root.mkdir(parents=True, exist_ok=True)
        rows = _work(sweep, root)
    except OSError as error:
        raise CommandRefused(
            f"a sweep needs a folder to write to, and {root} is none ({error.strerror}); give another --out."
        ) from None
    show_table("", ("run", *FIGURES, ""), rows, wrap=1)
    tell(f"written: {root / 'report.html'}")
    if sweep.failures:
        raise CommandRefused(f"{len(sweep.failures)} of {len(sweep.cells)} runs failed; {root}/report.html says why.")


def _work(sweep: Sweep, root: Path) -> list[list[str]]:
    from derivations.cli.progress import console

    screen = console()
    with Progress(console=screen, transient=True, disable=not screen.is_terminal) as bar:
        task = bar.add_task("runs", total=len(sweep.cells))
        rows: list[list[str]] = []

        def show() -> None:
            rows[:] = _write_page(sweep, root)
            bar.update(task, completed=sum(map(is_complete, sweep.cells)) + len(sweep.failures))

        show()
        sweep.run(show)
    return rows


def _write_page(sweep: Sweep, root: Path) -> list[list[str]]:
    """Write the page from what the run directories hold now.

    Returns:
        One line of text per cell, for a table.
    """
    from derivations.report.sweep import Line, sweep_html
    from derivations.report.write import replace_text

    lines = [
        Line(cell.label, cell.folder.name, *_figures(cell), sweep.failures.get(cell, ""), cell.folder)
        for cell in sweep.cells
    ]
    replace_text(root / "report.html", sweep_html(FIGURES, lines))
    return [[line.label, *line.figures, line.failure or line.note] for line in lines]


_known: dict[Path, tuple[list[str], str]] = {}


def _figures(cell: Cell) -> tuple[list[str], str]:
    """Return the figures of a complete run, and what there is to say: why one is missing, which process stopped."""
    if not is_complete(cell):
        return [""] * len(FIGURES), "not complete"
    if cell.folder not in _known:
        from numerics.records import Run

        _known[cell.folder] = _figures_of(Run.load(cell.folder))
    return _known[cell.folder]


def _figures_of(run: Run) -> tuple[list[str], str]:
    rows = {label: (central, note) for label, central, _, note in run.summary().as_rows()}
    stopped: dict[str, Any] = run.manifest.get("stopped", {})
    notes = [rows[label][1] for label in FIGURES if label in rows] + [f"{name}: {why}" for name, why in stopped.items()]
    return [rows.get(label, ("", ""))[0] for label in FIGURES], "; ".join(dict.fromkeys(filter(None, notes)))
