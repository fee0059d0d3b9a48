"""What the demonstration runs, and how its overview looks."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from derivations.cli.problems import DESCRIPTION, build
from derivations.cli.progress import progress_bar
from derivations.cli.refusal import CommandRefused

if TYPE_CHECKING:
    from numerics.records import Run

KICK = 1e-3
SEED = 0
MARKER = "demo.txt"  # says that a folder is the demonstration's own, and may be replaced by it


@dataclass(frozen=True)
class Experiment:
    """One run of the demonstration."""

    rule: str
    hyper: Mapping[str, Any]
    steps: int
    warm_start: int = 5
    kick: float = 0.0
    sentence: str = field(default="", compare=False)


EXPERIMENTS = (
    Experiment(
        "gd",
        {"lr": 0.354},
        steps=200,
        warm_start=45,
        kick=KICK,
        sentence="One step size for everything: the sharpness itself is held at 2/lr.",
    ),
    Experiment(
        "scalar_rmsprop",
        {"lr": 0.3, "beta2": 0.99, "eps": 1e-6},
        steps=200,
        warm_start=64,
        kick=KICK,
        sentence="The step size follows the gradient's norm, and so the oscillation regulates it.",
    ),
    Experiment(
        "rmsprop",
        {"lr": 0.002, "beta2": 0.99, "eps": 1e-6},
        steps=200,
        warm_start=60,
        sentence="One step size per parameter: the preconditioned Hessian is held at the threshold.",
    ),
)


def folder_of(root: Path, rule: str) -> Path:
    """Return the run directory of one experiment."""
    return root / f"demo-{rule}"


def clear(folder: Path) -> None:
    """Make an empty folder for the demonstration, replacing its own earlier output and nothing else.

    Raises:
        CommandRefused: the folder holds something that the demonstration did not write.
    """
    if folder.exists() and not (folder / MARKER).is_file() and (not folder.is_dir() or any(folder.iterdir())):
        raise CommandRefused(
            f"the demonstration writes to {folder}, which holds something else: move it away, or give another --out."
        )
    if folder.exists():
        shutil.rmtree(folder)


def mark(folder: Path) -> None:
    """Say in the folder that the demonstration made it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MARKER).write_text(
        "written by `centralflow demo`, which replaces this folder when it runs again\n", encoding="utf-8"
    )


def train(experiment: Experiment, folder: Path, steps: int | None = None) -> Run:
    """Run one experiment into a folder that `clear` has emptied.

    Args:
        experiment: what to run.
        folder: the run directory.
        steps: instead of the experiment's own.

    Returns:
        Its records.
    """
    from numerics import simulate

    try:
        with progress_bar(f"{experiment.rule:15}") as progress:
            run: Run = simulate(
                build(seed=SEED),
                rule=experiment.rule,
                hyper=dict(experiment.hyper),
                steps=steps or experiment.steps,
                warm_start=experiment.warm_start,
                kick=experiment.kick,
                seed=SEED,
                out=folder,
                progress=progress,
            )
            return run
    finally:
        mark(folder)


def overview_html(runs: Mapping[str, Run], sections: Mapping[str, str], table: str) -> str:
    """Return the overview page.

    Args:
        runs: rule → records.
        sections: rule → HTML of its figures.
        table: HTML of the comparison.
    """
    from derivations.report.page import page_html

    title = "Central flows against training"
    parts = [
        f"<h1>{title}</h1>",
        f'<p class="lead">{escape(DESCRIPTION)}, seed {SEED}.</p>',
        "<h2>Headline figures</h2>",
        table,
    ]
    parts.append(
        '<p class="note">Central flow first, the stable flow in brackets: '
        "what one would predict without the oscillation.</p>"
    )
    sentences = {experiment.rule: experiment.sentence for experiment in EXPERIMENTS}
    for rule, run in runs.items():
        link = f'<a href="../{folder_of(Path(), rule)}/report.html">the whole report</a>'
        parts.append(
            f"<h2>{escape(rule)}</h2><p>{escape(sentences.get(rule, ''))} "
            f"{escape(run.progress)}; {link}.</p>{sections[rule]}"
        )
    return page_html(title, parts)
