"""`centralflow derive`: one rule's derivation as text, as a document in several formats, or as code that runs."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

from derivations.cli.output import deliver, tell
from derivations.cli.plain_text import derivation_text
from derivations.cli.refusal import CommandRefused
from theory import Derivation, derive
from theory.html import html
from theory.latex import document
from theory.markdown import markdown
from theory.pdf import write_pdf
from theory.standalone import torch_source

FORMATS = {
    "latex": "a complete LaTeX document",
    "pdf": "that document through pdflatex, which must be installed",
    "html": "one page that needs no network; formulas are MathML",
    "markdown": "GitHub-flavoured Markdown, formulas between dollars",
    "code": "the optimizer and its flows as a Python file that needs torch alone, for small models",
}
RENDERERS: dict[str | None, Callable[[Derivation], str]] = {
    None: derivation_text,
    "latex": document,
    "html": html,
    "markdown": markdown,
    "code": torch_source,
}
OFF = ("off", "false", "no", "0")
ON = ("on", "true", "yes", "1")


def add_arguments(parser: argparse.ArgumentParser, argv: Sequence[str]) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "rule", metavar="RULE", help="name of an installed rule, or path of a .py file that declares one"
    )
    form = parser.add_mutually_exclusive_group()
    for name, meaning in FORMATS.items():
        form.add_argument(f"--{name}", dest="form", action="store_const", const=name, help=meaning)
    parser.add_argument(
        "-o", "--output", type=Path, metavar="FILE", help="write to this file instead of the terminal (--pdf: RULE.pdf)"
    )
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
    if arguments.form == "pdf":
        path = arguments.output or Path(f"{d.rule.name}.pdf")
        write_pdf(document(d), path)
        tell(f"written: {path}")
    else:
        deliver(RENDERERS[arguments.form](d), arguments.output)


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
