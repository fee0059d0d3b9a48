"""Training problems from named parts: a network, data and a loss."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import TYPE_CHECKING, Any

from derivations.cli.factories import GIVEN, Factory, factory
from derivations.cli.refusal import CommandRefused

if TYPE_CHECKING:
    from numerics import Problem

MODEL, DATA, LOSS = "mlp", "digits", "mse"
DESCRIPTION = "digits, 300 examples, MLP 64-24-24-10, mean squared error, float64"  # of the default problem
LOSSES = {
    "mse": "half the squared error of one-hot targets",
    "cross-entropy": "of the softmax",
    "binary-mse": "one output, targets -1 and 1",
    "binary-cross-entropy": "one output, the logistic loss",
}
# What the targets of a loss must pass through, in numerics.data.
PREPARED = {"cross-entropy": "distributions", "binary-mse": "binary", "binary-cross-entropy": "binary"}
FILES = (".npz", ".pt")  # data named by such a file are the arrays in it


def data_factory(name: str) -> Factory:
    """Return the factory of data by their name, or of the arrays in a file; CommandRefused if there is none."""
    if name.endswith(FILES):
        found = factory("data", "arrays")
        return Factory(name, {k: p for k, p in found.parameters.items() if k != "path"}, found.given)
    return factory("data", name)


def build(
    model: str = MODEL,
    seed: int = 0,
    data: str = DATA,
    loss: str = LOSS,
    *,
    model_options: Mapping[str, Any] | None = None,
    data_options: Mapping[str, Any] | None = None,
    data_seed: int | None = None,
    safe: bool = False,
    ghost_batch: int | None = None,
) -> Problem:
    """Return a problem in float64 on the CPU, and let torch work on it with one thread: more only wait for one another at its size.

    Args:
        model: name of a built-in network, or of a user's as `package.module:factory` or `file.py:factory`.
        seed: of the initialisation.
        data: name of built-in data, an .npz or .pt file, or a user's function that returns (inputs, targets).
        loss: a key of `LOSSES`.
        model_options: arguments of the network's factory.
        data_options: arguments of the data's factory.
        data_seed: of data that are drawn; None takes their own default.
        safe: whether LayerNorm and attention are exchanged for equal layers with right third derivatives.
        ghost_batch: examples whose graph is in memory at a time; None is all.

    Raises:
        CommandRefused: for a loss that is unknown.
    """
    if loss not in LOSSES:
        raise CommandRefused(f"--loss must be one of {', '.join(LOSSES)}, got {loss!r}.")
    import torch

    from numerics import Problem
    from numerics import data as data_sets
    from numerics import models as networks

    torch.set_num_threads(1)
    kind = _model_of(model)
    place: dict[str, Any] = {"dtype": torch.float64, "device": "cpu"}
    options = dict(data_options or {})
    inputs, targets = _data(data, options, kind, data_seed, place)
    if loss in PREPARED and isinstance(targets, torch.Tensor) and targets.is_floating_point() and targets.ndim > 1:
        targets = getattr(data_sets, PREPARED[loss])(targets)
    with networks.seeded(seed):
        module = _call(kind, model, model_options or {}, data=(inputs, targets), seed=seed, **place)
    if isinstance(module, torch.nn.Module):
        module = (networks.safe(module) if safe else module).to(**place)
    problem = Problem.from_module(
        module, (inputs, targets), loss.replace("-", "_"), name=f"{model} on {data}", ghost_batch=ghost_batch
    )
    # A ghost batch changes derivatives by round-off only, so a run may go on with another one.
    problem.settings = {
        "model": model, "data": data, "loss": loss, "safe": safe, "data_seed": data_seed,
        "model_options": plain(model_options or {}), "data_options": plain(options),
    }  # fmt: skip
    return problem


def plain(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return options as JSON gives them back."""
    return {k: list(v) if isinstance(v, tuple) else v for k, v in options.items()}


def _model_of(name: str) -> Any:
    if ":" in name:
        return load(name, "--model")
    factory("models", name)
    module = importlib.import_module(f"numerics.models.{name}")
    return next(value for known, value in vars(module).items() if known.lower() == name and isinstance(value, type))


def _data(name: str, options: dict[str, Any], kind: Any, seed: int | None, place: Mapping[str, Any]) -> tuple[Any, Any]:
    """Return inputs and targets; where data come in several forms, the first that the network takes is chosen.

    Raises:
        CommandRefused: a user's function returns something else, or a seed is given for data without.
    """
    declared = data_factory(name)
    takes = getattr(kind, "takes", ())
    if "form" in declared.parameters and "form" not in options:
        forms = [form for form in takes if form in declared.parameters["form"].choices]
        options |= {"form": forms[0]} if forms else {}
    if name.endswith(FILES):
        options["path"] = name
    given = place if seed is None else {**place, "seed": seed}
    if seed is not None and "seed" not in declared.given:
        raise CommandRefused(f"--data-seed is for data that are drawn, and {name} are not: leave it out.")
    own = "arrays" if name.endswith(FILES) else name
    maker = load(name, "--data") if ":" in name else getattr(importlib.import_module(f"numerics.data.{own}"), own)
    made = _call(maker, name, options, **given)
    if not (isinstance(made, tuple | list) and len(made) == 2):
        raise CommandRefused(f"--data {name} must return a pair (inputs, targets), got {type(made).__name__}.")
    return made[0], made[1]


def _call(maker: Any, name: str, options: Mapping[str, Any], **given: Any) -> Any:
    """Call what makes a network or data with the options, and with those given arguments that it declares.

    Raises:
        CommandRefused: it takes others.
    """
    make = getattr(maker, "for_data", maker)
    try:
        declared = inspect.signature(make)
        bound = declared.bind(**{k: v for k, v in given.items() if k in declared.parameters}, **options)
    except (TypeError, ValueError) as error:
        raise CommandRefused(
            f"{name} must be a class or function of {', '.join(GIVEN)} and arguments that became flags: {error}."
        ) from error
    return make(*bound.args, **bound.kwargs)


def load(target: str, flag: str) -> Any:
    """Return what `package.module:attribute` or `file.py:attribute` names.

    Raises:
        CommandRefused: there is no such module, file or attribute.
    """
    module_name, _, attribute = target.rpartition(":")
    try:
        with _importable(Path(module_name).parent if module_name.endswith(".py") else Path()):
            module = _file(Path(module_name)) if module_name.endswith(".py") else importlib.import_module(module_name)
    except (ImportError, OSError, SyntaxError, ValueError) as error:
        raise CommandRefused(f"{flag} {target} cannot be imported: {type(error).__name__}: {error}.") from error
    if not callable(getattr(module, attribute, None)):
        public = [name for name, value in vars(module).items() if callable(value) and not name.startswith("_")]
        raise CommandRefused(
            f"{flag} {target} needs a class or function {attribute!r} in {module_name}, which has "
            f"{', '.join(public) or 'none'}."
        )
    return getattr(module, attribute)


@contextmanager
def _importable(folder: Path) -> Generator[None, None, None]:
    """Let imports find what lies in the folder, after everything that is installed."""
    entry = str(folder.resolve())
    sys.path.append(entry)
    try:
        yield
    finally:
        sys.path.remove(entry)


def _file(path: Path) -> Any:
    spec = spec_from_file_location(f"_centralflow_{path.stem}", path.resolve())
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses and pickles look their module up there
    spec.loader.exec_module(module)
    return module
