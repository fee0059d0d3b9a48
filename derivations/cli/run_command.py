"""`centralflow run`: train a network beside the flows; flags override the same keys of a TOML file."""

from __future__ import annotations

import argparse
import tomllib
from collections.abc import Callable, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from derivations.cli import factories
from derivations.cli.factories import Factory, Parameter
from derivations.cli.place import leads, placed
from derivations.cli.problems import DATA, LOSS, LOSSES, MODEL, build, data_factory
from derivations.cli.progress import progress_bar
from derivations.cli.refusal import CommandRefused
from derivations.cli.report_command import report
from theory import UpdateRule, derive, load_rule
from theory.declarations import Hyper

if TYPE_CHECKING:
    from numerics import Problem

PROCESSES = ("discrete", "midpoint", "central", "stable")
RUNS = Path("runs")
NO_DEFAULT = {
    "out": " (default: the next free name in runs/)",
    "data_seed": " (default: the data's own)",
    "ghost_batch": " (default: all)",
}
# Part ("model", "data") → the name it was asked for by, and the settings: key → argument's name and how it is read.
Parts = dict[str, tuple[str, dict[str, tuple[str, Parameter]]]]
DEFAULTS: dict[str, Any] = {
    "rule": "rmsprop",
    "model": MODEL,
    "data": DATA,
    "loss": LOSS,
    "data_seed": None,
    "steps": 500,
    "warm_start": 5,
    "kick": 0.0,
    "seed": 0,
    "processes": PROCESSES,
    "stride": 1,
    "device": "cpu",
    "dtype": "float64",
    "ghost_batch": None,
    "deterministic": False,
    "safe": False,
    "at_edge": False,
    "out": None,
    "resume": False,
}
CHOICES: dict[str, tuple[str, ...]] = {"loss": tuple(LOSSES), "dtype": ("float64", "float32")}


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
    "data": str,
    "loss": str,
    "data_seed": int,
    "steps": int,
    "warm_start": int,
    "kick": float,
    "seed": int,
    "processes": names,
    "stride": int,
    "device": str,
    "dtype": str,
    "ghost_batch": int,
    "out": Path,
}
SWITCHES = {
    "safe": "exchange LayerNorm and attention for equal layers whose third derivatives are right",
    "at_edge": "warm up for 200 steps well inside the stable set, then start at 0.95 of the threshold: gives the learning rate, and a "
    "kick as long as one step",
    "deterministic": "use algorithms whose sums have a fixed order (a graphics card has others)",
    "resume": "go on with the run in --out",
}
HELP = {
    "rule": "name of an installed rule, or path of a .py file that declares one; its hyperparameters become flags",
    "model": f"what to train: {', '.join(factories.names('models'))}, or your own as package.module:factory or "
    "file.py:factory, a class or function that returns a torch module; its arguments become flags",
    "data": f"what to train it on: {', '.join(factories.names('data'))}, an .npz or .pt file with arrays inputs and "
    "targets, or your own function; its arguments become flags",
    "loss": "; ".join(f"{name} ({text})" for name, text in LOSSES.items()),
    "data_seed": "of data that are drawn",
    "steps": "number of optimizer steps to record",
    "warm_start": "optimizer steps taken before the first recorded one",
    "kick": "relative displacement of the start along the top eigenvectors, so that oscillations can begin",
    "seed": "of the initialisation and of the sign of the kick",
    "processes": "comma-separated; more: inertial, eliminated (forms of the central flow with momentum), cross (keeps the cross term of "
    "E[g²]), ablated (no curvature term in the motion of the weights), stationary (preconditioner at its fixed point), rod (rod flow)",
    "stride": "optimizer steps per flow step, at most: more make a prediction cheaper and interpolate between its rows",
    "device": "where to compute: cpu, cuda, cuda:N or mps",
    "dtype": "precision: float64, or float32, which is all that mps has",
    "ghost_batch": "examples whose derivatives are in memory at a time; changes results by round-off only",
    "out": "run directory, a new folder",
}


def add_arguments(parser: argparse.ArgumentParser, argv: Sequence[str]) -> None:
    """Declare the arguments; the hyperparameters are those that the chosen rule declares."""
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument("--rule")
    first.add_argument("--model")
    first.add_argument("--data")
    first.add_argument("--config", type=Path)
    known, _ = first.parse_known_args([a for a in argv if a not in {"-h", "--help"}])
    config = read_config(known.config) if known.config else {}
    rule = load_rule(str(known.rule or config.get("rule", DEFAULTS["rule"])))
    parts = _parts(
        rule,
        model=factories.factory("models", str(known.model or config.get("model", MODEL))),
        data=data_factory(str(known.data or config.get("data", DATA))),
    )
    _refuse_unknown_keys(config, rule, parts, known.config)
    parser.set_defaults(loaded_rule=rule, parts=parts, from_config=config)
    parser.add_argument(
        "--config", type=Path, metavar="FILE.toml", help="the same settings as keys of a TOML file; flags override it"
    )
    for key, kind in TYPES.items():
        default = DEFAULTS[key]
        shown = ",".join(default) if isinstance(default, tuple) else default
        note = f" (default {shown})" if shown is not None else NO_DEFAULT[key]
        parser.add_argument(
            _flag(key),
            type=kind,
            default=argparse.SUPPRESS,
            choices=CHOICES.get(key),
            metavar=key.upper(),
            help=HELP[key] + note,
        )
    for key, text in SWITCHES.items():
        parser.add_argument(_flag(key), action="store_true", default=argparse.SUPPRESS, help=text)
    for part, (name, keys) in parts.items():
        _add_part(parser.add_argument_group(f"settings of the {part}, {name}"), part, keys)
    _add_hyper(parser.add_argument_group(f"hyperparameters of {rule.name} (numbers, or expressions in t)"), rule)


def _parts(rule: UpdateRule, **made: Factory) -> Parts:
    """Return the settings of network and data by key; a key that is taken gets the part's name before it."""
    taken = {*DEFAULTS, *rule.hyper, *rule.options}
    parts: Parts = {}
    for part, factory in made.items():
        keys = {(f"{part}_{name}" if name in taken else name): (name, p) for name, p in factory.parameters.items()}
        taken |= set(keys)
        parts[part] = (factory.name, keys)
    return parts


def _add_part(group: argparse._ArgumentGroup, part: str, keys: Mapping[str, tuple[str, Parameter]]) -> None:
    for key, (name, parameter) in keys.items():
        required = parameter.default is factories.REQUIRED
        note = "required" if required else f"default {factories.shown(parameter.default)}"
        group.add_argument(
            _flag(key),
            dest=f"{part}.{name}",
            type=parameter.read,
            choices=parameter.choices or None,
            default=argparse.SUPPRESS,
            metavar=key.upper(),
            help=((f"{parameter.help}; " if parameter.help else "") + note).replace("%", "%%"),
        )


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


def _refuse_unknown_keys(config: Mapping[str, Any], rule: UpdateRule, parts: Parts, path: Path | None) -> None:
    known = [*DEFAULTS, *rule.hyper, *rule.options, *(key for _, keys in parts.values() for key in keys)]
    for key in config:
        if key not in known:
            raise CommandRefused(
                f"{path} sets {key!r}, which is no setting of a run with {rule.name}, "
                f"{' and '.join(name for name, _ in parts.values())}: use {', '.join(known)}."
            )


def execute(arguments: argparse.Namespace) -> None:
    """Simulate, report, and print the headline figures."""
    rule: UpdateRule = arguments.loaded_rule
    settings = DEFAULTS | _checked(arguments.from_config, rule, arguments.parts) | vars(arguments)
    if settings["at_edge"]:
        _refuse_beside_edge(rule, settings)
        settings["hyper.lr"] = 1.0
    hyper = hyper_of(rule, settings)
    options = {part: _options(part, name, keys, settings) for part, (name, keys) in arguments.parts.items()}
    out = _folder(settings, rule)
    derivation = derive(rule, **{name: value for name, value in hyper.items() if isinstance(value, bool | str)})
    from numerics import simulate

    with placed(settings["device"], settings["dtype"]) as place, progress_bar(rule.name) as progress:
        problem, start = place(_problem(settings, options)), {}
        if settings["at_edge"]:
            start = _approach(problem, rule, hyper, settings["seed"])
        run = simulate(
            problem,
            rule=_reference(settings, rule),
            hyper=hyper,
            steps=settings["steps"],
            warm_start=0 if settings["at_edge"] else settings["warm_start"],
            kick=start.get("kick", settings["kick"]),
            state=start.get("state"),
            processes=settings["processes"],
            stride=settings["stride"],
            seed=settings["seed"],
            deterministic=settings["deterministic"],
            out=out,
            resume=settings["resume"],
            progress=progress,
        )
    if leads():
        report(run, out, derivation)


def _problem(settings: Mapping[str, Any], options: Mapping[str, Mapping[str, Any]]) -> Problem:
    return build(
        settings["model"],
        settings["seed"],
        settings["data"],
        settings["loss"],
        model_options=options["model"],
        data_options=options["data"],
        data_seed=settings["data_seed"],
        safe=settings["safe"],
        ghost_batch=settings["ghost_batch"],
    )


def _refuse_beside_edge(rule: UpdateRule, settings: Mapping[str, Any]) -> None:
    given = [key for key in ("warm_start", "kick") if settings[key] != DEFAULTS[key]]
    given += ["lr"] if "hyper.lr" in settings else []
    if given or "lr" not in rule.hyper:
        raise CommandRefused(
            f"--at-edge needs a rule with a learning rate lr, and chooses it, the warm-up and the kick: leave out "
            f"{' and '.join(map(_flag, given)) or f'--at-edge for {rule.name}'}."
        )


def _approach(problem: Problem, rule: UpdateRule, hyper: dict[str, Any], seed: int) -> dict[str, Any]:
    """Put the problem and the learning rate at the edge; return the kick and the state to start with."""
    from numerics.approach import approach_edge
    from numerics.lowered import lower

    numbers = {k: v for k, v in hyper.items() if not isinstance(v, bool | str)}
    emitted = derive(rule, **{k: v for k, v in hyper.items() if k not in numbers}).emitted
    unit, double = (lower(emitted, numbers | {"lr": lr}, problem.blocks, problem.w0) for lr in (1.0, 2.0))
    problem.w0, state, hyper["lr"], kick = approach_edge(problem, unit, double, seed=seed)
    return {"state": state, "kick": kick}


def _options(
    part: str, name: str, keys: Mapping[str, tuple[str, Parameter]], settings: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the arguments that were given for a factory.

    Raises:
        CommandRefused: one without default is missing.
    """
    for key, (argument, parameter) in keys.items():
        if parameter.default is factories.REQUIRED and f"{part}.{argument}" not in settings:
            raise CommandRefused(
                f"the {part} {name!r} needs {_flag(key)}{f', {parameter.help}' if parameter.help else ''}: give it as a flag or in the TOML file."
            )
    return {a: settings[f"{part}.{a}"] for a, _ in keys.values() if f"{part}.{a}" in settings}


def _checked(config: Mapping[str, Any], rule: UpdateRule, parts: Parts) -> dict[str, Any]:
    """Return a TOML file's settings in the flags' types, hyperparameters under the flags' names."""
    found: dict[str, Any] = {}
    of_parts = {key: (part, *made) for part, (_, keys) in parts.items() for key, made in keys.items()}
    for key, value in config.items():
        if key in of_parts:
            part, argument, parameter = of_parts[key]
            found[f"{part}.{argument}"] = _converted(key, value, parameter)
        elif key in rule.hyper or key in rule.options:
            found[f"hyper.{key}"] = value
        elif key == "processes" and isinstance(value, list):
            found[key] = tuple(map(str, value))
        elif key in SWITCHES:
            found[key] = _switch(key, value)
        else:
            found[key] = _converted(key, value, Parameter(TYPES[key], None, "", CHOICES.get(key, ())))
    return found


def _converted(key: str, value: Any, parameter: Parameter) -> Any:
    try:
        converted = parameter.read(str(value))
    except ValueError:
        raise CommandRefused(
            f"{key!r} in the TOML file must be of the kind that {_flag(key)} takes, got {value!r}."
        ) from None
    if parameter.choices and converted not in parameter.choices:
        raise CommandRefused(f"{key!r} in the TOML file must be one of {', '.join(parameter.choices)}, got {value!r}.")
    return converted


def _switch(key: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise CommandRefused(f"{key!r} in the TOML file must be true or false, got {value!r}.")
    return value


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
