r"""The only place that compiles the symbolic layer's source: a rule as functions of tensors.

Inside, a vector has the parameters on its last axis, a per-tensor state one number per tensor there, a scalar state a last
axis of length 1, and a matrix the parameters on its last two, so that leading axes (modes, pairs of modes) broadcast. `pack` and
`unpack` translate at the boundary.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Protocol

import torch
from torch import Tensor

from numerics.errors import InputRefused
from numerics.matrix import matrix_operations

States = tuple[Tensor, ...]
# Shape of a state that is a matrix, and the most parameters for which its root, an O(n³) decomposition per step, is taken.
MATRIX, MATRIX_LIMIT = 3, 2000


class Emitted(Protocol):
    """What the symbolic layer hands over: source text and declarations."""

    @property
    def name(self) -> str:
        """Name of the rule."""
        ...

    @property
    def source(self) -> str:
        """Text that defines the functions."""
        ...

    @property
    def hyper(self) -> Mapping[str, Any]:
        """Declared hyperparameters, with domain and default."""
        ...

    @property
    def states(self) -> Mapping[str, Any]:
        """Declared states, with shape and initial value."""
        ...

    @property
    def accumulators(self) -> tuple[str, ...]:
        """Names of the accumulators, in order."""
        ...

    @property
    def filters(self) -> tuple[str, ...]:
        """Names of the filter states, in order."""
        ...

    @property
    def reads_filters(self) -> bool:
        """Whether an accumulator reads a filter state."""
        ...

    @property
    def shape(self) -> int:
        """Shape of the preconditioner: 0 a number, 1 one per tensor, 2 a diagonal, 3 a matrix."""
        ...


@dataclass(frozen=True)
class LoweredRule:
    """A rule at fixed hyperparameters, for one parameter layout; its functions are the emitted ones, as attributes of ``f``."""

    name: str
    f: SimpleNamespace
    states: Mapping[str, Any]
    accumulators: tuple[str, ...]
    filters: tuple[str, ...]
    reads_filters: bool
    n: int
    blocks: tuple[int, ...]
    like: Tensor
    shape: int = 0

    def initial(self) -> States:
        """All states before the first step."""
        return tuple(self._initial(n, s.initial) for n, s in self.states.items())

    def _initial(self, name: str, value: float) -> Tensor:
        full = self.like.new_full(self._size(name), value)
        return full.tril().triu() if full.dim() == 2 else full

    @property
    def matrix(self) -> bool:
        """Whether P is a matrix over all parameters."""
        return self.shape == MATRIX

    def pack(self, given: Mapping[str, Any] | None) -> States:
        """States from the user's dict by name; what is missing keeps its initial value.

        Args:
            given: name → number or tensor.

        Returns:
            One tensor per state, in the rule's order.

        Raises:
            InputRefused: If a name, a shape or a value does not fit.
        """
        given = given or {}
        unknown = [n for n in given if n not in self.states]
        if unknown:
            raise InputRefused(
                f"state has no {unknown[0]!r}: the rule {self.name!r} has {', '.join(self.states) or 'no states'}."
            )
        return tuple(
            self._accept(n, given[n]) if n in given else v for n, v in zip(self.states, self.initial(), strict=True)
        )

    def unpack(self, values: States, names: tuple[str, ...] | None = None) -> dict[str, Tensor]:
        """States by name, scalars as 0-dimensional tensors."""
        return {
            n: v.reshape(()) if self._is_scalar(n) else v
            for n, v in zip(self.states if names is None else names, values, strict=True)
        }

    def select(self, values: States) -> States:
        """The accumulators among all states."""
        return tuple(v for n, v in zip(self.states, values, strict=True) if n in self.accumulators)

    def unit_filters(self, values: States) -> States:
        """The filter states among all states, rescaled to unit gain where the rule corrects their bias."""
        filters: States = self.f.unit_filters(values)
        return filters

    def vector(self, x: Tensor) -> Tensor:
        """A per-parameter, per-tensor or scalar quantity, as one number per parameter."""
        return x.expand(*x.shape[:-1], self.n) if x.shape[-1] == 1 else x

    def _is_scalar(self, name: str) -> bool:
        return int(self.states[name].shape) == 0

    def _size(self, name: str) -> tuple[int, ...]:
        return ((1,), (len(self.blocks),), (self.n,), (self.n, self.n))[int(self.states[name].shape)]

    def _accept(self, name: str, value: Any) -> Tensor:
        size = self._size(name)
        width = math.prod(size)
        x = torch.as_tensor(value, dtype=self.like.dtype, device=self.like.device).detach().clone()
        if x.numel() != width or not bool(torch.isfinite(x).all()):
            raise InputRefused(
                f"state[{name!r}] must be {width} finite number(s), got shape {tuple(x.shape)}"
                + ("." if x.numel() != width else " with non-finite values.")
            )
        x = x.reshape(size)
        if x.dim() == 2:
            _refuse_matrix(name, x)
        return x


def _refuse_matrix(name: str, x: Tensor) -> None:
    size = float(x.abs().max())
    symmetric = torch.allclose(x, x.T, atol=1e-6 * size)
    if not symmetric or float(torch.linalg.eigvalsh(x)[0]) < -1e-6 * size:
        raise InputRefused(
            f"state[{name!r}] must be a symmetric, positive semidefinite matrix, got {'an indefinite' if symmetric else 'an asymmetric'} one."
        )


def lower(emitted: Emitted, hyper: Mapping[str, float], blocks: tuple[int, ...], like: Tensor) -> LoweredRule:
    """Compile a rule for given hyperparameters and parameter layout.

    Args:
        emitted: source and declarations from the symbolic layer.
        hyper: values; defaults of the rule fill in what is missing.
        blocks: sizes of the parameter tensors, summing to n.
        like: a tensor whose device and dtype everything takes.

    Returns:
        The lowered rule.

    Raises:
        InputRefused: If a hyperparameter is missing, unknown or outside its domain, or matrices would be too large.
    """
    values = accept_hyper(emitted, hyper)
    _refuse_large(emitted, sum(blocks))
    namespace = _operations(blocks, like)
    exec(compile(emitted.source, f"<rule {emitted.name}>", "exec"), namespace)
    fixed = SimpleNamespace(**values)
    names = [
        n
        for n, v in namespace.items()
        if callable(v) and getattr(v, "__code__", None) and v.__code__.co_filename == f"<rule {emitted.name}>"
    ]
    bound = {n: _bind(namespace[n], fixed) for n in names}
    return LoweredRule(
        emitted.name,
        SimpleNamespace(**bound),
        emitted.states,
        emitted.accumulators,
        emitted.filters,
        emitted.reads_filters,
        sum(blocks),
        blocks,
        like,
        int(emitted.shape),
    )


def _refuse_large(emitted: Emitted, n: int) -> None:
    matrices = [name for name, s in emitted.states.items() if int(s.shape) == MATRIX]
    if matrices and n > MATRIX_LIMIT:
        raise InputRefused(
            f"the rule {emitted.name!r} keeps {matrices[0]}, a full matrix over all parameters, and needs n ≤ {MATRIX_LIMIT}, got n = {n}; "
            "use a smaller model, or a rule with a diagonal preconditioner."
        )


def accept_hyper(emitted: Emitted, hyper: Mapping[str, float]) -> dict[str, float]:
    """Check hyperparameters against the rule's declaration.

    Args:
        emitted: the rule.
        hyper: what the user gave.

    Returns:
        A value for each hyperparameter that is not scheduled.

    Raises:
        InputRefused: If one is missing, unknown, not a number or outside its domain.
    """
    unknown = [n for n in hyper if n not in emitted.hyper]
    if unknown:
        raise InputRefused(
            f"the rule {emitted.name!r} has no hyperparameter {unknown[0]!r}: it has {', '.join(emitted.hyper)}."
        )
    values = {}
    for name, declared in emitted.hyper.items():
        value = hyper.get(name, declared.default)
        if value is None:
            raise InputRefused(
                f"the rule {emitted.name!r} needs {name}, a number in {declared.domain}: give hyper=dict({name}=…)."
            )
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or not math.isfinite(value)
            or value not in declared.domain
        ):
            raise InputRefused(f"{name} must be a number in {declared.domain}, got {value!r}.")
        values[name] = float(value)
    return values


def _bind(function: Callable[..., Any], hyper: SimpleNamespace) -> Callable[..., Any]:
    return lambda *args: function(hyper, *args)


def _operations(blocks: tuple[int, ...], like: Tensor) -> dict[str, Any]:
    """The namespace that emitted source runs over."""
    n = sum(blocks)
    owner = torch.repeat_interleave(
        torch.arange(len(blocks), device=like.device), torch.tensor(blocks, device=like.device)
    )

    def per_parameter(x: Any) -> Tensor:
        x = torch.as_tensor(x, dtype=like.dtype, device=like.device)
        spread: Tensor = x.expand(*x.shape[:-1], n) if x.dim() else x.expand(n)
        return spread

    def block_total(x: Any) -> Tensor:
        x = per_parameter(x)
        sums: Tensor = x.new_zeros(*x.shape[:-1], len(blocks)).index_add_(-1, owner, x)
        return sums

    def along(slope: Any, rate: Any) -> Any:
        if not isinstance(rate, Tensor):
            return slope * rate if rate else 0.0
        return torch.where(rate == 0, torch.zeros((), dtype=like.dtype, device=like.device), slope * rate)

    def ratio(x: Any, d: Any) -> Any:
        d = torch.as_tensor(d, dtype=like.dtype, device=like.device)
        return torch.where(d == 0, torch.zeros((), dtype=like.dtype, device=like.device), x / d)

    def elementwise(function: Callable[[Tensor], Tensor], number: Callable[[float], float]) -> Callable[[Any], Any]:
        return lambda x: function(x) if isinstance(x, Tensor) else number(x)

    names = ("sqrt", "exp", "log", "sin", "cos", "tanh")
    simple = {k: elementwise(getattr(torch, k), getattr(math, k)) for k in names}
    return (
        simple
        | {
            "total": lambda x: per_parameter(x).sum(-1, keepdim=True),
            "block_total": block_total,
            "spread": lambda x: x[..., owner],
            "along": along,
            "ratio": ratio,
            "decay_log": lambda b: math.log(b) if b > 0 else 0.0,
            "pi": math.pi,
        }
        | matrix_operations(n, like)
    )
