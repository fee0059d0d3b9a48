"""Verdicts as rows of a table, counterexamples as blocks of text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from derivations.check.engine import NOTHING, Counterexample, Verdict

HEADER = ("claim", "THEORY", "held", "examples", "error", "order", "time")


def row(verdict: Verdict) -> tuple[str, ...]:
    """One line of the table."""
    claim = verdict.claim
    if verdict.outcome == NOTHING:
        return claim.name, claim.reference, NOTHING, "", verdict.note, "", ""
    order = "" if verdict.order is None else f"{verdict.order:.2f}"
    failed = verdict.counterexample is not None
    error = "" if failed else f"{verdict.error:.1e}"
    return claim.name, claim.reference, verdict.outcome, str(verdict.examples), error, order, f"{verdict.seconds:.1f} s"


def block(verdict: Verdict, counterexample: Counterexample) -> str:
    """A failed claim with its smallest counterexample."""
    lines = [
        f"{verdict.claim.reference}: {verdict.claim.name}",
        f"  fails: {counterexample.what}",
        f"    derived   {shown(counterexample.derived)}",
        f"    measured  {shown(counterexample.measured)}",
    ]
    return "\n".join([*lines, *_numbers(counterexample.sample, "  at ")])


def _numbers(sample: Mapping[str, Any], lead: str) -> list[str]:
    lines = []
    for name, value in sample.items():
        if isinstance(value, Mapping):
            value = ", ".join(f"{n} = {shown(v)}" for n, v in value.items()) or "none"
        lines.append(f"{lead}{name}: {shown(value)}")
        lead = " " * len(lead)
    return lines


def shown(value: Any) -> str:
    """A number, vector or list of them, in few digits."""
    if isinstance(value, list | tuple):
        return "; ".join(map(shown, value))
    if isinstance(value, np.ndarray):
        return np.array2string(value, precision=6, max_line_width=10_000, separator=", ").replace("\n", "")
    return f"{value:.6g}" if isinstance(value, float) else str(value)
