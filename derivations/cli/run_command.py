"""`centralflow run`: train a network beside the flows; flags override the same keys of a TOML file."""

from __future__ import annotations

import argparse
import tomllib
from collections.abc import Callable, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any

from derivations.cli.problems import MODELS, build
from derivations.cli.progress import progress_bar
from derivations.cli.refusal import CommandRefused
from derivations.cli.report_command import report
from theory import UpdateRule, derive, load_rule
from theory.rule import Hyper

PROCESSES = ("discrete", "midpoint", "central", "stable")
RUNS = Path("runs")
DEFAULTS: dict[str, Any] = {
    "rule": "rmsprop",
    "model": "mlp",
    "steps": 500,
    "warm_start": 5,
    "kick": 0.0,
    "seed": 0,
    "processes": PROCESSES,
    "out": None,
    "resume": False,
}


def number_or_schedule(text: str) -> float | str:
    """Return a hyperparameter's value: a number, or an expression in t as text."""
    try:
        return float(text)
    except ValueError:
        return text


def names(text: str) -> tuple[str, ...]:
    """Return the parts of a comma-separated list."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


TYPES: dict[str, Callable[[str], Any]] = {
    "rule": str,
    "model": str,
    "steps": int,
    "warm_start": int,
    "kick": float,
    "seed": int,
    "processes": names,
    "out": Path,
}
HELP = {
    "rule": "name of an installed rule, or path of a .py file that declares one; its hyperparameters become flags",
    "model": "what to train: " + "; ".join(f"{name} ({text})" for name, text in MODELS.items()),
    "steps": "number of optimizer steps to record",
    "warm_start": "optimizer steps taken before the first recorded one",
    "kick": "relative displacement of the start along the top eigenvectors, so that oscillations can begin",
    "seed": "of the initialisation and of the sign of the kick",
    "processes": "comma-separated; more: inertial, eliminated (forms of the central flow with momentum), cross (keeps the cross term of "
    "E[g²]), ablated (no curvature term in the motion of the weights), stationary (preconditioner at its fixed point), rod (rod flow)",
    "out": "run directory, a new folder",
}


def add_arguments(parser: argparse.ArgumentParser, argv: Sequence[str]) -> None:
    """Declare the arguments; the hyperparameters are those that the chosen rule declares."""
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument("--rule")
    first.add_argument("--config", type=Path)
    known, _ = first.parse_known_args([a for a in argv if a not in {"-h", "--help"}])
    config = read_config(known.config) if known.config else {}
    rule = load_rule(str(known.rule or config.get("rule", DEFAULTS["rule"])))
    _refuse_unknown_keys(config, rule, known.config)
    parser.set_defaults(loaded_rule=rule, from_config=config)
    parser.add_argument(
        "--config", type=Path, metavar="FILE.toml", help="the same settings as keys of a TOML file; flags override it"
    )
    for key, kind in TYPES.items():
        default = DEFAULTS[key]
        shown = ",".join(default) if isinstance(default, tuple) else default
        choices = list(MODELS) if key == "model" else None
        note = f" (default {shown})" if shown is not None else " (default: the next free name in runs/)"
        parser.add_argument(
            _flag(key),
            type=kind,
            default=argparse.SUPPRESS,
            choices=choices,
            metavar=key.upper(),
            help=HELP[key] + note,
        )
    parser.add_argument("--resume", action="store_true", default=argparse.SUPPRESS, help="go on with the run in --out")
    _add_hyper(parser.add_argument_group(f"hyperparameters of {rule.name} (numbers, or expressions in t)"), rule)


def _add_hyper(group: argparse._ArgumentGroup, rule: UpdateRule) -> None:
    for name, declared in rule.hyper.items():
        default = "required" if declared.default is None else f"default {declared.default:g}"
        group.add_argument(
            *_spellings(name),
            dest=f"hyper.{name}",
            type=number_or_schedule,
            default=argparse.SUPPRESS,
            metavar=name.upper(),
            help=f"in {declared.domain}, {default}",
        )
    for name, switch in rule.options.items():
        group.add_argument(
            _flag(name),
            dest=f"hyper.{name}",
            action=argparse.BooleanOptionalAction,
            default=argparse.SUPPRESS,
            help=f"option of the rule, default {'on' if switch.default else 'off'}",
        )


def _flag(key: str) -> str:
    return "--" + key.replace("_", "-")


def _spellings(name: str) -> list[str]:
    return list(dict.fromkeys([_flag(name), f"--{name}"]))


def read_config(path: Path) -> dict[str, Any]:
    """Return the settings of a TOML file.

    Raises:
        CommandRefused: it cannot be read.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CommandRefused(f"--config needs a readable TOML file, and {path} is none ({error.strerror}).") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise CommandRefused(f"--config needs a TOML file, and {path} is none: {error}.") from None


def _refuse_unknown_keys(config: Mapping[str, Any], rule: UpdateRule, path: Path | None) -> None:
    known = [*DEFAULTS, *rule.hyper, *rule.options]
    for key in config:
        if key not in known:
            raise CommandRefused(
                f"{path} sets {key!r}, which is no setting of a run with {rule.name}: use {', '.join(known)}."
            )


def execute(arguments: argparse.Namespace) -> None:
    """Simulate, report, and print the headline figures."""
    rule: UpdateRule = arguments.loaded_rule
    settings = DEFAULTS | _checked(arguments.from_config, rule) | vars(arguments)
    hyper = hyper_of(rule, settings)
    out = _folder(settings, rule)
    derivation = derive(rule, **{name: value for name, value in hyper.items() if isinstance(value, bool | str)})
    from numerics import simulate

    with progress_bar(rule.name) as progress:
        run = simulate(
            build(settings["model"], settings["seed"]),
            rule=_reference(settings, rule),
            hyper=hyper,
            steps=settings["steps"],
            warm_start=settings["warm_start"],
            kick=settings["kick"],
            processes=settings["processes"],
            seed=settings["seed"],
            out=out,
            resume=settings["resume"],
            progress=progress,
        )
    report(run, out, derivation)


def _checked(config: Mapping[str, Any], rule: UpdateRule) -> dict[str, Any]:
    """Return a TOML file's settings in the flags' types, hyperparameters under the flags' names."""
    found: dict[str, Any] = {}
    for key, value in config.items():
        if key in rule.hyper or key in rule.options:
            found[f"hyper.{key}"] = value
        elif key == "processes" and isinstance(value, list):
            found[key] = tuple(map(str, value))
        elif key == "resume":
            found[key] = bool(value)
        else:
            found[key] = _converted(key, value)
    return found


def _converted(key: str, value: Any) -> Any:
    try:
        return TYPES[key](str(value))
    except ValueError:
        raise CommandRefused(
            f"{key!r} in the TOML file must be of the kind that {_flag(key)} takes, got {value!r}."
        ) from None


def hyper_of(rule: UpdateRule, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the hyperparameters and options that were given, and the declared defaults of the rest.

    Args:
        rule: which declares them.
        settings: given values, under "hyper.NAME".

    Raises:
        CommandRefused: one without default is missing, or a value has the wrong kind or lies outside its domain.
    """
    hyper: dict[str, Any] = {}
    for name, declared in rule.hyper.items():
        value = settings.get(f"hyper.{name}", declared.default)
        if value is None:
            raise CommandRefused(
                f"the rule {rule.name!r} needs {_flag(name)}, in {declared.domain}: "
                "give it as a flag or in the TOML file."
            )
        hyper[name] = _in_domain(name, value, declared)
    return hyper | {name: settings[f"hyper.{name}"] for name in rule.options if f"hyper.{name}" in settings}


def _in_domain(name: str, value: Any, declared: Hyper) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise CommandRefused(f"{_flag(name)} must be a number or an expression in t, got {value!r}.")
    if not isinstance(value, str) and value not in declared.domain:
        raise CommandRefused(f"{_flag(name)} must lie in {declared.domain}, got {value:g}.")
    return value


def _reference(settings: Mapping[str, Any], rule: UpdateRule) -> str:
    """Return the rule as the manifest shall name it: a file by its absolute path, an installed one by its name."""
    given = str(settings["rule"])
    return str(Path(given).resolve()) if given.endswith(".py") else rule.name


def _folder(settings: Mapping[str, Any], rule: UpdateRule) -> Path:
    if settings["out"] is not None:
        return Path(settings["out"])
    if settings["resume"]:
        raise CommandRefused("--resume needs --out, the run directory to go on with.")
    return next(path for number in count(1) if not (path := RUNS / f"{rule.name}-{number:03d}").exists())
