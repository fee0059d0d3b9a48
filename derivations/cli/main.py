"""Dispatch: one module per command, imported only when it is asked for, so that `--help` stays fast."""

from __future__ import annotations

import argparse
import importlib
import os
import signal
import sys
import threading
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType

from derivations.cli.place import leads

PROGRAM = "centralflow"


@dataclass(frozen=True)
class Command:
    """A command: its one-line help, an example, and the module with `add_arguments` and `execute`."""

    help: str
    example: str
    module: str


def _command(name: str, help: str, example: str) -> Command:
    return Command(help, example, f"derivations.cli.{name}_command")


COMMANDS: dict[str, Command] = {
    "list": _command(
        "list",
        "show the installed update rules with their threshold and preconditioner",
        "centralflow list --html -o rules.html",
    ),
    "derive": _command(
        "derive",
        "derive the central flow of a rule: as text, LaTeX, PDF, HTML, Markdown or code",
        "centralflow derive rmsprop --html -o rmsprop.html",
    ),
    "new": _command(
        "new", "write a commented rule file that derives and runs, to start from", "centralflow new mine --dir rules"
    ),
    "check": _command(
        "check",
        "try every claim derived for a rule on random numbers, and print the smallest counterexample to a false one",
        "centralflow check rmsprop",
    ),
    "run": _command(
        "run",
        "train a network beside the flows that predict it",
        "centralflow run --rule rmsprop --lr 0.004 --steps 250",
    ),
    "sweep": _command(
        "sweep",
        "run a grid of settings, several runs at a time, with one summary page",
        "centralflow sweep --rule rmsprop --lr 0.002 0.004 --steps 250 --jobs 2",
    ),
    "report": _command("report", "write report.html of a run, finished or not", "centralflow report runs/demo-rmsprop"),
    "compare": _command(
        "compare",
        "put the headline figures of several runs in one table",
        "centralflow compare runs/demo-gd runs/demo-rmsprop",
    ),
    "demo": _command(
        "demo", "train a digits network with three rules and report how well the flows predict it", "centralflow demo"
    ),
}

# Where the exceptions live that turn a user's mistake away with one sentence. What was raised is imported.
REFUSALS = (
    ("theory.errors", "RuleRefused"),
    ("numerics.errors", "InputRefused"),
    ("numerics.run_directory", "RecordingStopped"),
    ("numerics.derivatives", "NonFiniteLoss"),
    ("numerics.sharded", "RankLost"),
    ("derivations.cli.refusal", "CommandRefused"),
    ("theory.pdf", "PdfFailed"),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: of the command line; None takes the process's own.

    Returns:
        The exit code: 0, 2 after a refusal (one sentence on stderr), 130 after an interrupt.
    """
    argv = list(sys.argv[1:] if arguments is None else arguments)
    parser, chosen = _parser(argv)
    parsed = argparse.Namespace()
    try:
        if chosen is None:
            parser.parse_args(argv)
            parser.print_help()
            return 2
        parser.parse_args(argv, parsed)
        with _ended_as_by_hand():
            chosen.execute(parsed)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader, such as `head`, has seen enough; Python must not flush again at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        return _say("interrupted; what was recorded is kept", 130)
    except Exception as error:
        if not isinstance(error, _refusals()):
            raise
        # Of several processes those that are left say so, as the one that speaks for all may be the lost one.
        return _say(str(error), 2, by_all=type(error).__name__ == "RankLost")
    return 0


@contextmanager
def _ended_as_by_hand() -> Generator[None, None, None]:
    """Take SIGTERM, with which batch systems end a job, as Ctrl-C: records are closed, and the run can be resumed."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.signal(signal.SIGTERM, _interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def _interrupt(number: int, frame: object) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # once is enough
    raise KeyboardInterrupt


def _parser(argv: list[str]) -> tuple[argparse.ArgumentParser, ModuleType | None]:
    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        description="Derive, solve and validate central flows: "
        "the differential equations that optimizers follow on average.",
        epilog=f"example: {PROGRAM} demo\nevery command explains itself: {PROGRAM} COMMAND --help",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(title="commands", dest="command", metavar="COMMAND")
    chosen = None
    for name, command in COMMANDS.items():
        sub = commands.add_parser(
            name,
            help=command.help,
            description=f"{command.help[0].upper()}{command.help[1:]}.",
            epilog=f"example: {command.example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        if argv and argv[0] == name:
            chosen = importlib.import_module(command.module)
            try:
                chosen.add_arguments(sub, argv[1:])
            except Exception as error:
                if not isinstance(error, _refusals()):
                    raise
                sys.exit(_say(str(error), 2))
    return parser, chosen


def _refusals() -> tuple[type[BaseException], ...]:
    loaded = ((sys.modules.get(module), name) for module, name in REFUSALS)
    return tuple(getattr(module, name) for module, name in loaded if module is not None)


def _say(sentence: str, code: int, *, by_all: bool = False) -> int:
    if by_all or leads():
        sys.stderr.write(f"{PROGRAM}: {sentence}\n")
    return code
