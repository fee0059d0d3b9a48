"""`centralflow list`: the installed rules, as a table or as a page."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from derivations.cli.output import deliver, show_table
from derivations.cli.plain_text import plain
from derivations.cli.refusal import CommandRefused
from derivations.cli.rules_page import rules_html
from theory import RuleRefused, UpdateRule, available_rules
from theory.clock import after_long
from theory.normal_form import to_normal_form
from theory.stability import stability


def add_arguments(parser: argparse.ArgumentParser, argv: Sequence[str]) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "--html", action="store_true", help="a page that puts all rules side by side, with what is derived"
    )
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="write the page to this file")


def execute(arguments: argparse.Namespace) -> None:
    """Print one line per rule, or the page.

    Raises:
        CommandRefused: -o was given without --html.
    """
    if arguments.html:
        deliver(rules_html(available_rules()), arguments.output)
        return
    if arguments.output is not None:
        raise CommandRefused("-o takes the page that --html makes: give both, or neither.")
    rows = [(name, *_threshold_and_preconditioner(rule), _first_line(rule)) for name, rule in available_rules().items()]
    show_table("", ("rule", "threshold, t → ∞", "preconditioner P, t → ∞", "what it is"), rows, wrap=2)


def _threshold_and_preconditioner(rule: UpdateRule) -> tuple[str, str]:
    try:
        form = to_normal_form(rule.record())
        in_the_end = (after_long(form.update, e) for e in (stability(form).threshold, form.P))
        threshold, P = map(plain, in_the_end)
        return threshold, P
    except RuleRefused as refusal:
        return "refused", str(refusal)


def _first_line(rule: UpdateRule) -> str:
    return rule.doc.splitlines()[0] if rule.doc else ""
