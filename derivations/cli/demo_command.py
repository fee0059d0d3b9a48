"""`centralflow demo`: three rules on one network, with reports."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from derivations.cli import demo
from derivations.cli.compare_command import comparison
from derivations.cli.output import show_table, tell
from derivations.cli.refusal import CommandRefused

OVERVIEW_FIGURES = ("loss", "eigenvalues")


def add_arguments(parser: argparse.ArgumentParser, argv: Sequence[str]) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "--out", type=Path, default=Path("runs"), metavar="FOLDER", help="where its folders go (default runs)"
    )
    parser.add_argument(
        "--steps", type=_positive, metavar="STEPS", help="steps of every run, instead of the demonstration's own"
    )


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {number}")
    return number


def execute(arguments: argparse.Namespace) -> None:
    """Train, write the reports and the overview, and print the headline table.

    Raises:
        CommandRefused: a folder cannot be written, or holds something that the demonstration did not write.
    """
    from derivations.report import derivation_of, draw_figures, write_report
    from derivations.report.page import figure_html, table_html
    from derivations.report.write import REPORT, replace_text

    root: Path = arguments.out
    overview = root / "demo"
    try:
        for folder in (overview, *(demo.folder_of(root, experiment.rule) for experiment in demo.EXPERIMENTS)):
            demo.clear(folder)
        runs, sections = {}, {}
        for experiment in demo.EXPERIMENTS:
            folder = demo.folder_of(root, experiment.rule)
            run = demo.train(experiment, folder, arguments.steps)
            drawings = draw_figures(run)
            page = write_report(run, folder, derivation_of(run), drawings)
            tell(f"written: {page}")
            runs[experiment.rule] = run
            sections[experiment.rule] = "".join(figure_html(d) for d in drawings if d.stem in OVERVIEW_FIGURES)
        rows = comparison({rule: run.summary() for rule, run in runs.items()})
        demo.mark(overview)
        html = demo.overview_html(runs, sections, table_html(("figure", *runs), rows, numbers=range(1, len(runs) + 1)))
        page = replace_text(overview / REPORT, html)
    except OSError as error:
        raise CommandRefused(
            f"the demonstration needs a writable folder, and {root} is none ({error.strerror}); give another --out."
        ) from None
    show_table("central flow, and the stable flow in brackets", ("figure", *runs), rows)
    tell(f"written: {page}")
