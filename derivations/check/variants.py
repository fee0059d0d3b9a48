"""The variants of a rule that are checked beside its defaults: each option at its other value, and a learning rate that varies."""

from __future__ import annotations

from typing import Any

from theory.rule import UpdateRule

FALLING = "exp(-t/100)"
"""A schedule that is slow, and that a flow sees in every step."""
SHARE = 0.3
"""Of the examples that a variant is tried on."""


def variants(rule: UpdateRule) -> dict[str, dict[str, Any]]:
    """Choices for `derive`, by what they are called: every option switched, then a schedule of the learning rate."""
    switched = {f"{n} {'off' if o.default else 'on'}": {n: not o.default} for n, o in rule.options.items()}
    scheduled = {f"lr = {FALLING}": {"lr": FALLING}} if "lr" in rule.hyper else {}
    return switched | scheduled
