"""`centralflow new`: a commented rule file to start from."""

from __future__ import annotations

import argparse
import keyword
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from derivations.cli.output import tell
from derivations.cli.refusal import CommandRefused
from theory import available_rules

# A rule file like any other: it is held by the tests to what it says, and read here as text.
TEMPLATE, PLACEHOLDER = "rule_template.py", "my_rule"
LINTER = "# mypy:"  # its first line is for our type checker only


def add_arguments(parser: argparse.ArgumentParser, argv: Sequence[str]) -> None:
    """Declare the arguments."""
    parser.add_argument("name", metavar="NAME", help="of the rule, a Python identifier; the file is called NAME.py")
    parser.add_argument(
        "--dir", type=Path, default=Path(), metavar="DIR", help="folder of the file (default: the present one)"
    )


def execute(arguments: argparse.Namespace) -> None:
    """Write the file and say what to do with it."""
    path = write_rule(arguments.name, arguments.dir)
    tell(f"written: {path}; edit it, then: centralflow derive {path}")


def write_rule(name: str, folder: Path) -> Path:
    """Write a rule file that derives and runs as it is.

    Args:
        name: of the rule.
        folder: where the file goes; it must exist.

    Returns:
        The path of the file.

    Raises:
        CommandRefused: If the name is no identifier or that of an installed rule, the file exists, or it cannot be written.
    """
    if not name.isidentifier() or keyword.iskeyword(name) or name.startswith("_"):
        raise CommandRefused(
            f"a rule needs a name that Python accepts (letters, digits, _, no leading digit, no keyword), got {name!r}."
        )
    if name in available_rules():
        raise CommandRefused(
            f"{name!r} is the name of an installed rule: choose another, so that records tell them apart."
        )
    path = folder / f"{name}.py"
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(_text(name))
    except FileExistsError:
        raise CommandRefused(f"{path} exists and is not overwritten: choose another name or folder.") from None
    except OSError as error:
        raise CommandRefused(f"{path} cannot be written ({error.strerror}): choose another --dir.") from None
    return path


def _text(name: str) -> str:
    lines = files("derivations.cli").joinpath(TEMPLATE).read_text(encoding="utf-8").splitlines(keepends=True)
    return "".join(line for line in lines if not line.startswith(LINTER)).replace(PLACEHOLDER, name)
