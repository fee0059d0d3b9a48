"""`centralflow compare`: the headline figures of several runs side by side."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from derivations.cli.output import show_table

if TYPE_CHECKING:
    from numerics.summary import Summary


def add_arguments(parser: argparse.ArgumentParser, argv: Sequence[str]) -> None:
    """Declare the arguments."""
    parser.add_argument("runs", metavar="RUN", type=Path, nargs="+", help="run directories, two or more")


def execute(arguments: argparse.Namespace) -> None:
    """Print one table, a column per run."""
    from numerics.records import Run

    runs = {str(path): Run.load(path) for path in arguments.runs}
    progress = ["progress", *(run.progress for run in runs.values())]
    show_table(
        "the stable flow in brackets",
        ("figure", *runs),
        [progress, *comparison({name: run.summary() for name, run in runs.items()})],
    )


def comparison(summaries: Mapping[str, Summary]) -> list[list[str]]:
    """Return one row per figure with a cell per run; the stable flow's value stands in brackets."""
    columns = [{label: _cell(central, stable) for label, central, stable, _ in s.as_rows()} for s in summaries.values()]
    labels = dict.fromkeys(label for column in columns for label in column)
    return [
        [label, *(column.get(label, "") for column in columns)]
        for label in labels
        if any(c.get(label) for c in columns)
    ]


def _cell(central: str, stable: str) -> str:
    return f"{central} ({stable})" if stable else central
