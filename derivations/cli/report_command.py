"""`centralflow report`: the page of one run."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from derivations.cli.output import show_table, tell
from derivations.cli.refusal import CommandRefused
from theory import Derivation, derive

if TYPE_CHECKING:
    from numerics.records import Run

HEADER = ("figure", "central flow", "stable flow", "")


def add_arguments(parser: argparse.ArgumentParser, argv: Sequence[str]) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "run", metavar="RUN", type=Path, help="run directory; the run may be finished, half-written or still going"
    )
    parser.add_argument(
        "--rule", metavar="RULE", help="rule whose equations to print, for a run of a rule file (RULE or FILE.py)"
    )


def execute(arguments: argparse.Namespace) -> None:
    """Write the page and print the headline figures."""
    from derivations.report import derivation_of
    from numerics.records import Run

    run = Run.load(arguments.run)
    report(run, arguments.run, derive(arguments.rule) if arguments.rule else derivation_of(run))


def report(run: Run, folder: Path, derivation: Derivation | None) -> Path:
    """Write the report of a run into its folder and print the headline table.

    Args:
        run: the records.
        folder: the run directory.
        derivation: of the rule, for the equations; None says where to get them.

    Returns:
        The path of the page.

    Raises:
        CommandRefused: the folder cannot be written.
    """
    from derivations.report import write_report

    try:
        page = write_report(run, folder if folder.is_dir() else folder.parent, derivation)
    except OSError as error:
        raise CommandRefused(
            f"the report needs a writable run directory, and {folder} is none ({error.strerror}); copy the run."
        ) from None
    show_table(f"{folder}: {run.progress}", HEADER, run.summary().as_rows(), wrap=3)
    for name, reason in run.manifest.get("stopped", {}).items():
        tell(f"the {name} process stopped at {reason}")
    for warning in run.warnings:
        tell(f"warning: {warning}")
    tell(f"written: {page}")
    return page
