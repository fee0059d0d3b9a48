"""What every process is: a state that makes one step and a row of measurements at the point it stepped from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from numerics.eigen import EigenTracker, Modes
from numerics.lowered import LoweredRule, States
from numerics.problem import Problem

Row = dict[str, Any]
# A matrix state of more numbers has no series; its final value is recorded all the same.
MATRIX_NUMBERS = 10_000


class ProcessStopped(ArithmeticError):
    """Raised by a process that cannot go on, with one sentence; its rows so far are kept."""


@dataclass(frozen=True)
class Context:
    """What all processes of a run share."""

    problem: Problem
    rule: LoweredRule
    keep_weights: bool
    seed: int

    def preconditioner(self, a: States) -> Tensor:
        """P at given accumulators: (n,), 0-dimensional where it is a scalar, (n, n) where it is a matrix."""
        P = torch.as_tensor(self.rule.f.preconditioner(a), dtype=self.problem.dtype, device=self.problem.device)
        return P.reshape(()) if P.numel() == 1 else self._spread(P)

    def _spread(self, P: Tensor) -> Tensor:
        if P.shape[-1] == self.problem.n:
            return P
        return torch.cat([p.expand(size) for p, size in zip(P, self.rule.blocks, strict=True)])


class Process(Protocol):
    """One process of a run."""

    name: str

    def step(self) -> Row:
        """Make one optimizer step's worth of progress; the row belongs to the point before it."""

    def finals(self) -> Row:
        """Final weights and states."""

    def state(self) -> Mapping[str, Any]:
        """Everything the next step depends on, as tensors and numbers."""

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue exactly where `state()` was taken."""


def tracker(context: Context, tol: float = 1e-5, period: int = 1) -> EigenTracker:
    """Make an eigentracker sized for the problem."""
    limit = min(48, max(8, context.problem.n))
    return EigenTracker(context.problem.n, tol=tol, seed=context.seed, limit=limit, period=period)


def states_row(rule: LoweredRule, states: States, names: tuple[str, ...], keep: bool) -> Row:
    """Accumulators for a row; per-parameter ones only where weights are kept, and matrices only if they are small."""
    named = rule.unpack(states, names)
    small = {n: v for n, v in named.items() if v.dim() < 2 or v.numel() <= MATRIX_NUMBERS}
    return {f"states_series/{n}": v for n, v in small.items() if keep or v.dim() == 0}


def spectrum_row(modes: Modes, threshold: float) -> Row:
    """Eigenvalues of P⁻¹H and their threshold for a row."""
    return {"eigenvalues": modes.values, "threshold": threshold}


def tensor_like(x: Any, like: Tensor) -> Tensor:
    """What an emitted function returned, a number where nothing depends on a tensor, as a tensor."""
    return x if isinstance(x, Tensor) else like.new_full((1,), float(x))


def vectors_like(values: Any, like: States) -> States:
    """What an emitted function returned for the accumulators, in their shapes."""
    return tuple(
        tensor_like(v, b).expand_as(b) if not isinstance(v, Tensor) or v.shape != b.shape else v
        for v, b in zip(values, like, strict=True)
    )
