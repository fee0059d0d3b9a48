"""The variants of a rule that are checked beside its defaults: each option at its other value, and a learning rate that varies."""

from __future__ import annotations

from typing import Any

from theory.rule import UpdateRule

FALLING = "1/(1 + t/100)"
"""A schedule that moves in every step, and has not died out where the bias corrections have."""
SHARE = 0.3
"""Of the examples that a variant is tried on."""


def variants(rule: UpdateRule) -> dict[str, dict[str, Any]]:
    """Choices for `derive`, by what they are called: every option switched, then a schedule of the learning rate."""
    switched = {f"{n} {'off' if o.default else 'on'}": {n: not o.default} for n, o in rule.options.items()}
    scheduled = {f"lr = {FALLING}": {"lr": FALLING}} if "lr" in rule.hyper else {}
    return switched | scheduled
