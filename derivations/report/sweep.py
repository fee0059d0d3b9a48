"""The summary page of a sweep: a line per run, the failed ones with their sentence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from derivations.report.figures import Drawing
from derivations.report.page import figure_html, page_html, table_html
from derivations.report.write import FIGURES, REPORT

SHOWN = {"loss": "Loss", "eigenvalues": "Eigenvalues of P⁻¹H"}


@dataclass(frozen=True)
class Line:
    """What the page says of one run.

    Attributes:
        label: its settings.
        anchor: its name within the page.
        figures: as text, empty where there is none.
        note: why one is missing, or what happened.
        failure: the sentence with which it failed, or nothing.
        folder: its run directory.
    """

    label: str
    anchor: str
    figures: Sequence[str]
    note: str
    failure: str
    folder: Path


def sweep_html(header: Sequence[str], lines: Sequence[Line]) -> str:
    """Return the page.

    Args:
        header: names of the figures.
        lines: one per run.
    """
    failed = [line for line in lines if line.failure]
    waiting = [line for line in lines if line.note == "not complete" and not line.failure]
    counts = f"{len(lines)} runs: {len(lines) - len(failed) - len(waiting)} complete, {len(failed)} failed"
    parts = [
        "<h1>Central flows over a grid of runs</h1>",
        f'<p class="lead">{escape(counts)}, {len(waiting)} waiting or going on.</p>',
        "<h2>Headline figures of the central flow</h2>",
        table_html(
            ("run", *header, "note"),
            [(line.label, *line.figures, line.failure or line.note) for line in lines],
            numbers=range(1, len(header) + 1),
        ),
    ]
    if failed:
        parts += ["<h2>Failed</h2>", table_html(("run", "why"), [(line.label, line.failure) for line in failed])]
    return page_html("Sweep", [*parts, *(_section(line) for line in lines if (line.folder / REPORT).is_file())])


def _section(line: Line) -> str:
    """Return a run's figures, as its own report drew them, and the way to that report."""
    link = f'<a href="{escape(line.anchor, quote=True)}/{REPORT}">the whole report</a>'
    pictures = "".join(
        figure_html(Drawing(stem, title, title, file.read_text(encoding="utf-8")))
        for stem, title in SHOWN.items()
        if (file := line.folder / FIGURES / f"{stem}.svg").is_file()
    )
    figures = f"<details><summary>figures</summary>{pictures}</details>" if pictures else ""
    return (
        f'<section id="{escape(line.anchor, quote=True)}"><h2>{escape(line.label)}</h2><p>{link}</p>{figures}</section>'
    )
