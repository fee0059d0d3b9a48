r"""The rod flow [Rod]: two consecutive iterates as the ends ȳ ± Δ of a rod, with Σ = ΔΔᵀ; a baseline for the central flow.

For gradient descent, with g± and H± at w̄ ± δ and Σ = δδᵀ, [Rod] (arXiv 2602.01480, as THEORY section 8 quotes it) is

    dw̄/dt = −(η/2)(g₊ + g₋) − (η²/8)(H₊ + H₋)(g₊ + g₋),    dΣ/dt = (η²/4)(g₊g₊ᵀ + g₋g₋ᵀ) − 2Σ.

Any other rule is **our extension**, in the setting that [Rod] names for Adam (arXiv 2605.06821: the phase space of weights and momentum,
with the second moment as a smooth auxiliary variable); its equations there were not at hand and may differ. One step of a rule is
y_{t+1} = y_t + Φ(y_t) with y = (w, filter states) and the accumulators frozen. With ȳ_t = (y_t + y_{t+1})/2 and Δ_t = (y_t − y_{t+1})/2,

    ȳ_{t+1} − ȳ_t = ½(Φ₊ + Φ₋) =: F,    Σ_t = ¼Φ₊Φ₊ᵀ,    Σ_{t+1} = ¼Φ₋Φ₋ᵀ    (Φ± at ȳ ± Δ)

exactly, hence Σ_{t+1} − Σ_t = ¼(Φ₊Φ₊ᵀ + Φ₋Φ₋ᵀ) − 2Σ_t, which does not depend on the sign of Δ. The flow whose steps of length 1 make
these increments, to second order in ȳ and to first in Σ, is

    dȳ/dt = F − ½F′F,    dΣ/dt = ¼(Φ₊Φ₊ᵀ + Φ₋Φ₋ᵀ) − 2Σ.

For gradient descent these are the equations above. On a quadratic Φ = (M − 1)y, so that around its minimum Σ grows along an eigenvector
of the step's matrix M iff ½(μ − 1)² > 2, which for real μ < 1 is μ < −1: iff λ > λ* (T2), whatever the filter. Accumulators
follow (T7) with the mean of their map over both ends.

A step of length h takes ȳ ← ȳ + hF − ½h(1 − h)F′F, right to second order in F like the flow itself, and at h = 1 the optimizer; Σ relaxes exponentially and is
cut back to its best approximation of rank 1 in the P-metric (‖δw‖²_P and ‖δm‖²_{P⁻¹}; for gradient descent the Euclidean one).
What that discards is recorded as ``truncated``: the largest share in a step. In phase space that can be all that
grows, for a Δ that is no difference of two consecutive iterates; a run starts from one that is.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from numerics.derivatives import LocalDerivatives
from numerics.lowered import States
from numerics.processes.process import (
    Context,
    ProcessStopped,
    Row,
    spectrum_row,
    states_row,
    tensor_like,
    tracker,
    vectors_like,
)

# Steps per optimizer step: the fastest rate is 4, in a critical mode.
SUBSTEPS = 4
TOLERANCE = 1e-4


class Rod:
    """The rod flow. Its time runs half a step ahead of the iterates, so that it starts at row 0 with half a step."""

    def __init__(self, context: Context, w: Tensor, states: States, name: str = "rod", *, substeps: int = 1) -> None:
        self.name, self.context, self.substeps = name, context, SUBSTEPS * substeps
        self.centre = torch.stack([w, *(context.rule.vector(m) for m in context.rule.unit_filters(states))])
        self.half = torch.zeros_like(self.centre)
        self.before: States = context.rule.select(states)
        self.displacement: Tensor | None = None
        self._states = states
        self._fresh = True
        self._tracker = tracker(context, tol=TOLERANCE)

    @property
    def w(self) -> Tensor:
        """The rod's centre in weight space, (n,)."""
        return self.centre[0]

    def step(self) -> Row:
        """Advance by one optimizer step, at first by the half of it that is left from the first rod.

        Returns:
            The row at the point before the step.

        Raises:
            ProcessStopped: If the flow leaves the finite numbers.
        """
        clock = [time.perf_counter()]
        local = self.context.problem.linearise(self.w)
        clock.append(time.perf_counter())
        length, start = (0.5, self.w) if self._fresh else (1.0, None)
        if start is not None:
            self._place(local.grad)
        row = self._row(local, start)
        clock.append(time.perf_counter())
        lost = max(self._substep(length / self.substeps) for _ in range(self.substeps))
        self._fresh = False
        if not bool(torch.isfinite(self.centre).all() & torch.isfinite(self.half).all()):
            raise ProcessStopped(
                f"the {self.name} flow left the finite numbers; lower the learning rate or start later"
            )
        clock.append(time.perf_counter())
        grad = clock[1] - clock[0]
        phases = zip(("grad", "eig", "ends", "total"), (clock[0:2], clock[1:3], clock[2:4], clock[0::3]), strict=True)
        return row | {"truncated": lost} | {f"cost/{k}": (b - a) / grad for k, (a, b) in phases}

    def _place(self, g: Tensor) -> None:
        """Put the rod between the first two iterates; the accumulators are those of the first step."""
        rule = self.context.rule
        w, states = rule.f.step(self.w, g, self._states)
        second = torch.stack([w, *(rule.vector(m) for m in rule.unit_filters(states))])
        self.centre, self.half = (self.centre + second) / 2, (self.centre - second) / 2
        self.before = rule.select(states)

    def _substep(self, h: float) -> float:
        """Advance by h; returns the share of tr Σ that lay outside rank 1."""
        ends = [self.centre + self.half, self.centre - self.half]
        locals_ = [self.context.problem.linearise(end[0]) for end in ends]
        a = self._updated(ends, [local.grad for local in locals_], h)
        moves = [self._move(a, end, local.grad) for end, local in zip(ends, locals_, strict=True)]
        mean = (moves[0] + moves[1]) / 2
        along = mean[0][:, None]
        turned = sum((local.quick_hessian_product(along)[:, 0] for local in locals_), torch.zeros_like(mean[0])) / 2
        # Φ is linear in (y, g), so its derivative along y is Φ itself at (dy, H dw).
        self.centre = self.centre + h * mean - h * (1 - h) / 2 * self._move(a, mean, turned)
        fresh = math.sqrt((1 - math.exp(-2 * h)) / 8)
        spread = torch.stack([math.exp(-h) * self.half, fresh * moves[0], fresh * moves[1]])
        self.half, lost = self._rank_one(spread, self.context.preconditioner(a))
        self.before = a
        return lost

    def _move(self, a: States, y: Tensor, g: Tensor) -> Tensor:
        """Φ(y), what one optimizer step adds to weights and filter states where the gradient is g, (1 + filters, n)."""
        f, old = self.context.rule.f, tuple(y[1:])
        new = f.filter_map(a, old, g)
        moved = f.velocity(a, y[0], f.drive(a, old, new, g))
        return torch.stack([moved, *(m - o for m, o in zip(new, old, strict=True))])

    def _updated(self, ends: list[Tensor], gradients: list[Tensor], h: float) -> States:
        """Accumulators advanced by h: first the clocks, then the others along (T7), their map averaged over both ends."""
        f = self.context.rule.f
        ahead = vectors_like(f.advance_clocks(self.before, h), self.before)
        rates = [f.accumulator_rate(ahead, *self._means(ahead, y, g)) for y, g in zip(ends, gradients, strict=True)]
        g = (gradients[0] + gradients[1]) / 2
        mean = [h * (tensor_like(p, g) + tensor_like(m, g)) / 2 for p, m in zip(*rates, strict=True)]
        change = f.implicit(ahead, *self._means(ahead, self.centre, g), mean, h)
        return tuple(b + c for b, c in zip(ahead, vectors_like(change, ahead), strict=True))

    def _means(self, a: States, y: Tensor, g: Tensor) -> tuple[States, States, Tensor]:
        old = tuple(y[1:])
        return old, self.context.rule.f.filter_map(a, old, g), g

    def _rank_one(self, spread: Tensor, P: Tensor) -> tuple[Tensor, float]:
        """Best Δ with ΔΔᵀ ≈ ∑ of the outer products, in the P-metric, and the share of the trace that is left over."""
        root = P.expand(spread.shape[-1]).sqrt()
        inverse = torch.where(root > 0, 1 / root, torch.zeros_like(root))
        scaled = torch.cat([spread[:, :1] * root, spread[:, 1:] * inverse], 1).flatten(1)
        values, Q = torch.linalg.eigh(scaled @ scaled.T)
        total = float(values.sum())
        half = torch.einsum("s,syn->yn", Q[:, -1], spread)
        aligned = half if float((half * self.half).sum()) >= 0 else -half
        return aligned, 1 - float(values[-1]) / total if total > 0 else 0.0

    def _row(self, local: LocalDerivatives, start: Tensor | None) -> Row:
        """Measured at the centre, averages over both ends; row 0 is at the start w₀, which precedes the first rod by half a step."""
        rule, a = self.context.rule, self.before
        P, threshold = self.context.preconditioner(a), float(rule.f.threshold(a))
        modes = self._tracker.track(local.quick_hessian_product, P, 0.9 * threshold)
        w = self.w if start is None else start
        reach = self.half[0] if start is None else torch.zeros_like(w)
        values = [self.context.problem.gradient(end) for end in (w + reach, w - reach)]
        row: Row = {
            "loss": float(local.loss),
            "predicted_loss": sum(float(value) for value, _ in values) / 2,
            "gradient_norm2": float(local.grad @ local.grad),
            "predicted_gradient_norm2": sum(float(g @ g) for _, g in values) / 2,
        } | spectrum_row(modes, threshold)
        row |= states_row(rule, a, rule.accumulators, self.context.keep_weights)
        if self.context.keep_weights:
            row["weights_series"] = w
        return row | self._amplitude(P)

    def _amplitude(self, P: Tensor) -> Row:
        """δᵀPδ, which is X for the one direction of the rod, and the optimizer's squared displacement along it."""
        size = (P * self.half[0] @ self.half[0]).clamp_min(0)
        row: Row = {"variances": size.reshape(1)}
        if self.displacement is not None and float(size) > 0:
            row["displacement_squares"] = ((P * self.half[0] @ self.displacement).square() / size).reshape(1)
        return row

    def finals(self) -> Row:
        """The centre after the last step, and the accumulators there."""
        return {"weights": self.w, "states": self.context.rule.unpack(self.before, self.context.rule.accumulators)}

    def state(self) -> Mapping[str, Any]:
        """See Process."""
        return {
            "centre": self.centre,
            "half": self.half,
            "before": list(self.before),
            "fresh": int(self._fresh),
            "tracker": self._tracker.state(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """See Process."""
        self.centre, self.half, self.before = state["centre"], state["half"], tuple(state["before"])
        self._fresh = bool(int(state["fresh"]))
        self._tracker.restore(state["tracker"])
