"""`centralflow list`: the installed rules."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from derivations.cli.output import show_table
from derivations.cli.plain_text import plain
from theory import RuleRefused, UpdateRule, available_rules
from theory.normal_form import to_normal_form
from theory.stability import stability


def add_arguments(parser: argparse.ArgumentParser, argv: Sequence[str]) -> None:
    """Take no arguments."""


def execute(arguments: argparse.Namespace) -> None:
    """Print one line per rule."""
    rows = [(name, *_threshold_and_preconditioner(rule), _first_line(rule)) for name, rule in available_rules().items()]
    show_table("", ("rule", "threshold", "preconditioner P", "what it is"), rows, wrap=2)


def _threshold_and_preconditioner(rule: UpdateRule) -> tuple[str, str]:
    try:
        form = to_normal_form(rule.record())
        return plain(stability(form).threshold), plain(form.P)
    except RuleRefused as refusal:
        return "refused", str(refusal)


def _first_line(rule: UpdateRule) -> str:
    return rule.doc.splitlines()[0] if rule.doc else ""
