"""What the built-in networks share: the forms of data that they take, and how they are made to fit them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import TYPE_CHECKING, Any, ClassVar, Self

from torch import nn

from numerics.errors import InputRefused

if TYPE_CHECKING:
    from torch import Tensor

Data = tuple[Any, Any]

FORMS = {
    "vectors": "real vectors (n, d)",
    "series": "real sequences (n, T, d)",
    "images": "images (n, channels, size, size)",
    "tokens": "integer sequences (n, T)",
}


class Architecture(nn.Module, ABC):
    """A network that can be made to fit data.

    Attributes:
        takes: the forms of inputs it can read, keys of `FORMS`, the natural one first.
    """

    takes: ClassVar[tuple[str, ...]] = ()

    @classmethod
    @abstractmethod
    def for_data(cls, data: Data, *, seed: int = 0) -> Self:
        """Return a network whose inputs and outputs fit the data, on their device and in the targets' precision."""


def form_of(inputs: Tensor) -> str:
    """Return the key of `FORMS` that describes inputs.

    Raises:
        InputRefused: none does.
    """
    by_axes = {2: "vectors", 3: "series", 4: "images"} if inputs.is_floating_point() else {2: "tokens"}
    form = by_axes.get(inputs.ndim, "")
    if not form or (form == "images" and inputs.shape[2] != inputs.shape[3]):
        raise InputRefused(
            f"inputs must be {', '.join(FORMS.values())}, got shape {tuple(inputs.shape)} of {inputs.dtype}; reshape "
            f"or convert them"
        )
    return form


def fitting(form: str) -> tuple[str, ...]:
    """Return the names of the built-in networks that take a form of inputs."""
    here = __name__.rpartition(".")[0]
    for module in iter_modules([str(Path(__file__).parent)]):
        import_module(f"{here}.{module.name}")
    own = (kind for kind in _kinds(Architecture) if "for_data" in vars(kind) and kind.__module__.startswith(here))
    return tuple(sorted(kind.__name__.lower() for kind in own if form in kind.takes))


def _kinds(base: type[nn.Module]) -> list[Any]:
    return [kind for child in base.__subclasses__() for kind in (child, *_kinds(child))]


def accept_data(kind: type[Architecture], data: Data) -> tuple[Tensor, Tensor]:
    """Return inputs and targets if the network can read the former, and the latter are one row per example.

    Raises:
        InputRefused: with the networks that fit.
    """
    inputs, targets = data
    form = form_of(inputs)
    if form not in kind.takes:
        raise InputRefused(
            f"{kind.__name__.lower()} takes {' or '.join(FORMS[f] for f in kind.takes)}, but the data are "
            f"{FORMS[form]}; they fit {', '.join(fitting(form))}"
        )
    if targets.ndim < 2 or not targets.is_floating_point() or len(targets) != len(inputs):
        raise InputRefused(
            f"targets must be floats (n, outputs), or (n, outputs, positions) for sequences, one row for each of "
            f"{len(inputs)} examples, got shape {tuple(targets.shape)} of {targets.dtype}; turn labels into one-hot "
            f"rows with numerics.data.one_hot"
        )
    return inputs, targets
