"""`centralflow check`: property tests of every derived claim of a rule, with the smallest counterexample where one is false."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from derivations.check import Subject, Verdict, judge
from derivations.check.report import HEADER, block, row
from derivations.cli.output import show_table, tell
from theory import derive

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
    """Derive, try every claim, print the table and what is false.

    Raises:
        SystemExit: If a claim is false, with code 1.
    """
    d = derive(arguments.rule)
    verdicts = []
    for verdict in judge(Subject(d, d.update), arguments.seed, arguments.effort):
        tell(f"{verdict.claim.name}: {verdict.outcome}")
        verdicts.append(verdict)
    _print(d.rule.name, verdicts)
    if any(v.counterexample for v in verdicts):
        sys.stdout.flush()
        raise SystemExit(FALSE_CLAIM)


def _print(name: str, verdicts: list[Verdict]) -> None:
    show_table(f"Claims derived for {name}", HEADER, map(row, verdicts))
    for verdict in verdicts:
        if verdict.counterexample is not None:
            sys.stdout.write("\n" + block(verdict, verdict.counterexample) + "\n")
