"""`centralflow check`: property tests of every derived claim of a rule, with the smallest counterexample where one is false."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from derivations.check import Subject, Verdict, judge
from derivations.check.report import HEADER, block, row
from derivations.check.variants import SHARE, variants
from derivations.cli.output import show_table, tell
from theory import UpdateRule, derive, load_rule

FALSE_CLAIM = 1
"""Exit code where a claim is false."""


def add_arguments(parser: argparse.ArgumentParser, argv: Sequence[str]) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "rule", metavar="RULE", help="name of an installed rule, or path of a .py file that declares one"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the numbers that are tried (default %(default)s)")
    parser.add_argument(
        "--effort", type=float, default=1.0, metavar="X", help="try X times as many examples (default %(default)s)"
    )


def execute(arguments: argparse.Namespace) -> None:
    """Derive, try every claim on the rule and on its variants, print the tables and what is false.

    Raises:
        SystemExit: If a claim is false, with code 1.
    """
    rule = load_rule(arguments.rule)
    failed = _check(rule, "", {}, arguments.seed, arguments.effort)
    for name, choices in variants(rule).items():
        failed |= _check(rule, f", {name}", choices, arguments.seed, SHARE * arguments.effort)
    if failed:
        sys.stdout.flush()
        raise SystemExit(FALSE_CLAIM)


def _check(rule: UpdateRule, variant: str, choices: dict[str, Any], seed: int, share: float) -> bool:
    """Print the verdicts on one variant; True if a claim is false."""
    d = derive(rule, **choices)
    verdicts = []
    for verdict in judge(Subject(d, d.update), seed, share):
        tell(f"{verdict.claim.name}{variant}: {verdict.outcome}")
        verdicts.append(verdict)
    _print(f"{rule.name}{variant}", verdicts)
    return any(v.counterexample for v in verdicts)


def _print(name: str, verdicts: list[Verdict]) -> None:
    show_table(f"Claims derived for {name}", HEADER, map(row, verdicts))
    for verdict in verdicts:
        if verdict.counterexample is not None:
            sys.stdout.write("\n" + block(verdict, verdict.counterexample) + "\n")
