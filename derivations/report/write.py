"""Write a report beside the records it is about."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from derivations.report.figures import Drawing, draw_figures
from derivations.report.page import report_html
from numerics.records import Run
from theory import Derivation, RuleRefused, derive

REPORT, FIGURES = "report.html", "figures"


def write_report(
    run: Run, folder: Path, derivation: Derivation | None = None, drawings: Sequence[Drawing] | None = None
) -> Path:
    """Write `report.html` and the files in `figures/`.

    Args:
        run: the records.
        folder: where to write, usually the run directory.
        derivation: of the rule, for the equations; None says where to get them.
        drawings: the figures, where they have been drawn already.

    Returns:
        The path of the page.
    """
    drawn = draw_figures(run) if drawings is None else drawings
    (folder / FIGURES).mkdir(parents=True, exist_ok=True)
    for drawing in drawn:
        replace_text(folder / FIGURES / f"{drawing.stem}.svg", drawing.svg)
    return replace_text(folder / REPORT, report_html(run, derivation, drawn))


def replace_text(path: Path, text: str) -> Path:
    """Write a file whole or not at all.

    Returns:
        Its path.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def derivation_of(run: Run) -> Derivation | None:
    """Return the derivation of the rule that was run, None where the rule cannot be found or read any more."""
    config: Any = run.manifest.get("config")
    if not isinstance(config, Mapping) or not isinstance(config.get("rule"), str):
        return None
    hyper: Any = config.get("hyper")
    choices = {n: v for n, v in hyper.items() if isinstance(v, bool | str)} if isinstance(hyper, Mapping) else {}
    try:
        found = derive(config.get("rule_file") or config["rule"], **choices)
    except RuleRefused:
        return None
    return found if found.rule.name == config["rule"] else None  # the file may hold another rule by now
