"""`centralflow derive`: one rule's derivation as text, LaTeX or code."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from derivations.cli.output import deliver
from derivations.cli.plain_text import derivation_text
from derivations.cli.refusal import CommandRefused
from theory import derive

OFF = ("off", "false", "no", "0")
ON = ("on", "true", "yes", "1")


def add_arguments(parser: argparse.ArgumentParser, argv: Sequence[str]) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "rule", metavar="RULE", help="name of an installed rule, or path of a .py file that declares one"
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--latex", action="store_true", help="write a complete LaTeX document")
    form.add_argument("--code", action="store_true", help="write the rule and its flow as Python source")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="write to this file instead of the terminal")
    parser.add_argument(
        "--option",
        action="append",
        default=[],
        metavar="NAME[=off]",
        help="switch an option of the rule, such as bias_correction",
    )
    parser.add_argument(
        "--schedule",
        action="append",
        default=[],
        metavar="NAME=EXPR",
        help="a hyperparameter as an expression in t: lr='0.1/sqrt(t)'",
    )


def execute(arguments: argparse.Namespace) -> None:
    """Derive and write."""
    choices = {**dict(map(_option, arguments.option)), **dict(map(_schedule, arguments.schedule))}
    d = derive(arguments.rule, **choices)
    text = d.to_latex() if arguments.latex else d.to_torch_source() if arguments.code else derivation_text(d)
    deliver(text, arguments.output)


def _option(text: str) -> tuple[str, bool]:
    name, _, value = text.partition("=")
    if value.lower() not in {"", *ON, *OFF}:
        raise CommandRefused(f"--option needs NAME, NAME=on or NAME=off, got {text!r}.")
    return name, value.lower() not in OFF


def _schedule(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (equals and name and value):
        raise CommandRefused(f"--schedule needs NAME=EXPRESSION in t, such as lr='0.1/sqrt(t)', got {text!r}.")
    return name, value
