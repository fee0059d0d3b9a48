r"""The stable, central and ablated flow: one stepping code, which differs by X ≡ 0, or by ½∇⟨H,Σ⟩ in ẇ (THEORY sections 4, 5, 7).

A step at (w, a): advance the clocks, then update the other accumulators with the gradient found at w; follow the top modes of P⁻¹H; predict the margin λ*P − H
at the end of the step, affine in X; solve the complementarity problem for X; move w. The oscillation acts on w at once and on
the accumulators in the next update, as in the optimizer.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from numerics.boundary import to_numpy, to_tensor
from numerics.derivatives import LocalDerivatives
from numerics.eigen import Modes, spectral_cut
from numerics.lowered import States
from numerics.matrix import times
from numerics.processes.filters import make_filter
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
from numerics.processes.propagator import Propagator
from numerics.sdcp import solve_sdcp

# Modes within a fraction below λ* take part in the complementarity problem, and on to the next spectral gap. The fraction is
# so many times the fastest recent rise of an eigenvalue per step (which is forgotten at this rate), between these bounds.
RISES, FORGET, NARROWEST, WINDOW = 3.0, 0.9, 0.005, 0.05
# Where a mode exceeds λ* by more than this fraction, the modes just below repel it upwards: the window opens again.
REPELLED = 0.001
# Tracked modes with λ above this fraction of λ* are advanced exponentially; forward Euler is stable for all below the window.
FAST = 0.8
# Of the eigentracker: critical modes are accurate to an angle √(tol/10).
TOLERANCE = 1e-4
# Guards well below the window are brought up to date at every so many-th step.
GUARD_PERIOD = 4
# Third derivatives by differences are checked at a second step size at every so many-th use.
CHECK_EVERY = 8
# An excess of λ over λ* larger than this fraction is removed over several steps: this share of it per step.
EXCESS, SHARE = 0.02, 0.5


@dataclass(frozen=True)
class Oscillation:
    """The covariance on the critical modes of one step, and what it does."""

    U: Tensor  # (n, k)
    T: Tensor  # (k, k, n)
    X: Tensor  # (k, k)
    y: Tensor  # (n, k): λ*PU, the modes' gradient oscillations

    @classmethod
    def none(cls, w: Tensor) -> Oscillation:
        """No critical mode."""
        return cls(w.new_zeros(len(w), 0), w.new_zeros(0, 0, len(w)), w.new_zeros(0, 0), w.new_zeros(len(w), 0))

    @property
    def curvature_gradient(self) -> Tensor:
        """∇⟨H,Σ⟩, (n,)."""
        return torch.einsum("kln,kl->n", self.T, self.X)


@dataclass(frozen=True)
class Here:
    """The point that a step starts from: derivatives of the loss, accumulators, P, λ* and the top modes of P⁻¹H."""

    local: LocalDerivatives
    a: States
    P: Tensor
    threshold: float
    modes: Modes

    def oscillation(self, U: Tensor) -> Tensor:
        """HU = λ*PU on the critical modes U (T3); where the Hessian's row is zero so is HU, whatever round-off is left in U."""
        return torch.where(self.modes.HU[:, : U.shape[1]] == 0, torch.zeros_like(U), self.threshold * times(self.P, U))


class AveragedFlow:
    """The stable flow (``oscillates=False``), the central flow, or the ablated flow (``regularises=False``)."""

    def __init__(
        self,
        context: Context,
        w: Tensor,
        states: States,
        name: str,
        *,
        oscillates: bool,
        substeps: int = 1,
        fast: float = FAST,
        cross_term: bool = False,
        form: str = "map",
        regularises: bool = True,
    ) -> None:
        self.name = name
        self.context, self.w, self.oscillates, self.substeps, self.fast = context, w, oscillates, substeps, fast
        self.cross_term = cross_term  # keep g∘∇⟨H,Σ⟩ in E[∇L∇Lᵀ] (T5)
        self.regularises = regularises  # keep ½∇⟨H,Σ⟩ in ẇ; the ablated flow drops it (THEORY section 7)
        self.before: States = context.rule.select(states)  # accumulators before the update at w
        self.filter = make_filter(form, context.rule, states)
        self._fresh = True  # the first update is the optimizer's own
        self._last = Oscillation.none(w)
        self._calls = 0
        self._threshold = 0.0  # of the last step; 0 before the first
        self._values = w.new_zeros(0)  # λ/λ* of the tracked modes as last found,
        self._since = w.new_zeros(0, dtype=torch.int64)  # and how many steps ago
        self._rise = WINDOW / RISES
        self._tracker = tracker(context, tol=TOLERANCE, period=GUARD_PERIOD)
        self.displacement: Tensor | None = None

    def step(self) -> Row:
        """Advance by one optimizer step.

        Returns:
            The row at the point before the step.

        Raises:
            ProcessStopped: If the flow leaves the finite numbers or the complementarity problem has no solution.
        """
        count = self.substeps * self.filter.substeps(self._threshold)
        rows = [self._substep(1 / count) for _ in range(count)]
        for phase in ("grad", "eig", "third", "sdcp", "total"):
            rows[0][f"cost/{phase}"] = sum(r[f"cost/{phase}"] for r in rows)
        return rows[0]

    def _substep(self, h: float) -> Row:
        clock = [time.perf_counter()]
        local = self.context.problem.linearise(self.w)
        clock.append(time.perf_counter())
        if self._fresh:
            self._start_filter(local.grad)
        a = self._updated(local, h)
        P, threshold = self.context.preconditioner(a), float(self.context.rule.f.threshold(a))
        self._threshold = threshold
        modes = self._follow(local, P, threshold)
        clock.append(time.perf_counter())
        here = Here(local, a, P, threshold, modes)
        U = self._critical(modes, threshold)
        k = U.shape[1]
        T = self._third(local, U) if k else local.grad.new_zeros(0, 0, len(self.w))
        clock.append(time.perf_counter())
        propagator = Propagator.at(modes, P, h, self.fast * threshold)
        velocity = self.context.rule.f.velocity(a, self.w, local.grad)
        through = self.filter.feedthrough(a, h)
        slow = self.context.rule.f.velocity(a, self.w, self.filter.drive(a, local.grad, h))
        smooth = propagator.displace(slow, velocity)
        now, closing = self._close(here, U, T, smooth, through, propagator, h)
        clock.append(time.perf_counter())
        row = self._row(here, now) | cost_row(clock) | closing | {"complete": float(modes.complete)}
        pull = self._pull(now.curvature_gradient)
        force = self.context.rule.f.velocity_X(a, pull) if k else torch.zeros_like(self.w)
        self.w = (self.w + smooth + propagator.displace(through * force, force)).detach()
        self.filter.advance(a, local.grad + pull / 2, h)
        self.before, self._last, self._fresh = a, now, False
        if not bool(torch.isfinite(self.w).all()):
            raise ProcessStopped(
                f"the {self.name} flow left the finite numbers; lower the learning rate or start later"
            )
        return row

    def _follow(self, local: LocalDerivatives, P: Tensor, threshold: float) -> Modes:
        """The top modes; where eigenvalues rise faster than before, those from farther below λ* are brought up to date too."""
        reach = self._width()
        modes = self._tracker.track(local.quick_hessian_product, P, (1 - reach) * threshold)
        self._learn(modes, threshold)
        wider = self._width()
        rough = modes.stale | (modes.values < (1 - reach) * threshold)
        if wider > reach and bool((rough & (modes.values >= (1 - wider) * threshold)).any()):
            modes = self._tracker.track(local.quick_hessian_product, P, (1 - wider) * threshold)
            self._values, self._since = modes.values / threshold, modes.stale.to(torch.int64)
        return modes

    def _learn(self, modes: Modes, threshold: float) -> None:
        """How fast eigenvalues rose lately, from the modes that are freshly found."""
        (before, since), values = (self._values, self._since), modes.values / threshold
        common = min(len(before), len(values))
        ages = torch.nn.functional.pad(since[:common] + 1, (0, len(values) - common))
        rises = ((values[:common] - before[:common]) / ages[:common])[~modes.stale[:common]]
        self._values, self._since = values, torch.where(modes.stale, ages, 0)
        if len(rises):
            repelled = bool(values[0] > 1 + REPELLED)
            self._rise = max(float(rises.max()), FORGET * self._rise, WINDOW / RISES if repelled else 0.0)

    def _width(self) -> float:
        """How far below λ*, as a fraction, a mode could lie and yet reach it within the step."""
        return min(WINDOW, max(NARROWEST, RISES * self._rise))

    def _critical(self, modes: Modes, threshold: float) -> Tensor:
        """The modes that take part in the complementarity problem, (n, k)."""
        k = spectral_cut(modes.values, threshold, self._width()) if self.oscillates else 0
        return modes.U[:, :k]

    def _pull(self, curvature_gradient: Tensor) -> Tensor:
        """What of ∇⟨H,Σ⟩ acts on the weights: all of it, or nothing in the ablated flow."""
        return curvature_gradient if self.regularises else torch.zeros_like(curvature_gradient)

    def _third(self, local: LocalDerivatives, U: Tensor) -> Tensor:
        """∇H[u_i, u_j]; differences are their accuracy is checked every few calls."""
        self._calls += 1
        return local.third(U, checked=self._calls % CHECK_EVERY == 1)

    def _start_filter(self, g: Tensor) -> None:
        """At the accumulators after the first update, but for what they read of the filter."""
        ahead = self._advanced(self.before, 1.0)
        first = self.context.rule.f.accumulator_map(ahead, *self.filter.means(ahead, g), g)
        self.filter.start(vectors_like(first, ahead), g)

    def _advanced(self, a: States, h: float) -> States:
        """The accumulators with clocks advanced by h steps."""
        return vectors_like(self.context.rule.f.advance_clocks(a, h), a)

    def _means(self, a: States, g: Tensor) -> tuple[States, States, Tensor]:
        """Filter states and gradient as accumulators read them: where they read both, ½∇⟨H,Σ⟩ is in both or in neither."""
        if self.context.rule.reads_filters:
            g = g + self._pull(self._last.curvature_gradient) / 2
        return (*self.filter.means(a, g), g)

    def _updated(self, local: LocalDerivatives, h: float) -> States:
        """Accumulators at w: after the update there; a stationary flow has other ones."""
        return self._accumulated(local.grad, h)

    def _accumulated(self, g: Tensor, h: float) -> States:
        """Accumulators after the update with a mean gradient and the oscillation of the step that led here."""
        f = self.context.rule.f
        ahead = self._advanced(self.before, 1.0 if self._fresh else h)
        means = self._means(ahead, g)
        if self._fresh:
            return vectors_like(f.accumulator_map(ahead, *means), ahead)
        rate = [
            r + x
            for r, x in zip(
                f.accumulator_rate(ahead, *means), self._oscillating_rate(ahead, means, self._last), strict=True
            )
        ]
        change = f.implicit(ahead, *means, [h * r for r in rate], h)
        return tuple(b + c for b, c in zip(ahead, vectors_like(change, ahead), strict=True))

    def _oscillating_rate(self, a: States, means: Any, o: Oscillation) -> list[Any]:
        if not o.X.numel():
            return [0.0] * len(a)
        return [
            torch.einsum("kl...,kl->...", r, o.X) if isinstance(r, Tensor) else 0.0
            for r in self._rate_per_pair(a, means, o.y, o.T)
        ]

    def _rate_per_pair(self, a: States, means: Any, y: Tensor, T: Tensor) -> list[Any]:
        """Accumulators' rates per unit of X on each pair of modes."""
        f = self.context.rule.f
        rates = f.accumulator_rate_X(a, *means, y.T[:, None], y.T[None])
        if not self.cross_term or self.context.rule.reads_filters:  # where filters are read, `_means` has it already
            return list(rates)
        return [r + c for r, c in zip(rates, f.accumulator_rate_cross(a, *means, T), strict=True)]

    def _close(
        self, here: Here, U: Tensor, T: Tensor, smooth: Tensor, through: float, propagator: Propagator, h: float
    ) -> tuple[Oscillation, Row]:
        """Solve (T11) for the covariance that keeps the margin at the end of the step; ``sdcp_status`` is 0 where it was optimal.

        Raises:
            ProcessStopped: If the problem has no solution.
        """
        k = U.shape[1]
        if not k:
            return Oscillation.none(self.w), {"sdcp_status": 0.0}
        f, g = self.context.rule.f, here.local.grad
        a, P, threshold, modes = here.a, here.P, here.threshold, here.modes
        y = here.oscillation(U)
        flat = T.reshape(k * k, -1)
        force = f.velocity_X(a, self._pull(T))
        per_X = propagator.displace(through * force, force).reshape(k * k, -1)
        ahead = self._advanced(a, h)
        means = self._means(ahead, g)

        def margin_of(rates: Any) -> Tensor:
            """λ*UᵀDP[change]U for rates of the accumulators over the next update."""
            change = f.implicit(ahead, *means, rates, h)
            return threshold * self._margin(U, f.preconditioner_rate(ahead, [h * tensor_like(c, g) for c in change]))

        # Clocks move P and λ* at once and by a known amount; UᵀPU = I.
        clocked = threshold * self._margin(U, (self.context.preconditioner(ahead) - P).reshape(-1)).reshape(k, k)
        clocked = clocked + (float(f.threshold(ahead)) - threshold) * torch.eye(k, dtype=g.dtype, device=g.device)
        margin = torch.diag(_relaxed(threshold - modes.values[:k], threshold))
        A = margin - (flat @ smooth).reshape(k, k)
        A = A + clocked + margin_of(f.accumulator_rate(ahead, *means)).reshape(k, k)
        by_motion = -(flat @ per_X.T)
        B = by_motion + margin_of(self._rate_per_pair(ahead, means, y, T))
        solution = solve_sdcp(to_numpy((A + A.T) / 2), to_numpy(B.reshape(k, k, k, k)))
        if solution.status == "unsolvable":
            raise ProcessStopped(
                f"the {self.name} flow has no solution: no oscillation covariance keeps the {k} critical modes inside the stable set"
            )
        X = to_tensor(solution.X, U)
        row: Row = {"sdcp_status": {"optimal": 0.0, "inaccurate": 1.0}[solution.status]}
        row |= self._modulation(a, X, (margin - A) / (h * threshold), by_motion / (through or 1.0), B - by_motion)
        return Oscillation(U, T, X, y), row

    def _modulation(self, a: States, X: Tensor, rise: Tensor, by_motion: Tensor, by_P: Tensor) -> Row:
        """ϱ of `theory.modulation`: the share of the return path that goes through the filter has its lag, the rest none."""
        x, f = X.reshape(-1), self.context.rule.f
        motion, preconditioner = float(x @ by_motion @ x), float(x @ by_P @ x)
        alpha = float((rise * X).sum())
        if not alpha > 0 or not motion + preconditioner > 0:
            return {}
        share = motion / (motion + preconditioner)
        turn = math.sqrt(2 * alpha / float(X.diagonal().sum()) * float(f.modulation_rate(a)))
        return {"modulation": (float(f.modulation_delay(a)) + share * float(f.lag(a))) * turn}

    def _margin(self, U: Tensor, P_rate: Any) -> Tensor:
        """uᵢᵀ Ṗ uⱼ for all pairs (rows) and all given rates (columns)."""
        k = U.shape[1]
        if not isinstance(P_rate, Tensor):
            return U.new_zeros(k * k, 1)
        if self.context.rule.matrix:
            return (U.T @ P_rate.reshape(-1, len(U), len(U)) @ U).reshape(-1, k * k).T
        pairs = (U.T[:, None] * U.T[None]).reshape(k * k, -1)
        vectors = P_rate.reshape(-1, P_rate.shape[-1])
        if vectors.shape[-1] == len(self.context.rule.blocks) != pairs.shape[-1]:
            vectors = torch.repeat_interleave(
                vectors, torch.tensor(self.context.rule.blocks, device=pairs.device), dim=-1
            )
        return pairs @ vectors.expand(-1, pairs.shape[-1]).T

    def _row(self, here: Here, now: Oscillation) -> Row:
        local, a, P, threshold = here.local, here.a, here.P, here.threshold
        loss, g = float(local.loss), local.grad
        mean = g + now.curvature_gradient / 2
        D, Q = torch.linalg.eigh(now.X)
        row: Row = {
            "loss": loss,
            "predicted_loss": loss + threshold * float(now.X.diagonal().sum()) / 2,
            "gradient_norm2": float(g @ g),
            "predicted_gradient_norm2": float(mean @ mean) + float(torch.einsum("nk,nl,kl->", now.y, now.y, now.X)),
        } | spectrum_row(here.modes, threshold)
        row |= states_row(self.context.rule, a, self.context.rule.accumulators, self.context.keep_weights)
        if self.context.keep_weights:
            row["weights_series"] = self.w
        row |= self._ripple(a, local.grad, P, now)
        if self.oscillates:
            active = D.flip(0) > 1e-12 * D.abs().max() if len(D) else D > 0
            row |= {"variances": D.flip(0)[active], "critical": int(active.sum()), "candidates": len(D)}
            if self.displacement is not None and len(D):
                along = (times(P, now.U @ Q.flip(1)).T @ self.displacement) ** 2
                row["displacement_squares"] = along[active]
        return row

    def _ripple(self, a: States, g: Tensor, P: Tensor, now: Oscillation) -> Row:
        """Relative sizes of what the averages drop: of the threshold, as the covariance weighs it, and of the mean step."""
        trace = float(now.X.diagonal().sum())
        if not trace or not self.context.rule.accumulators:
            return {}
        if self.context.rule.matrix:
            return self._matrix_ripple(a, g, now, trace)
        f, variance = self.context.rule.f, torch.einsum("nk,nl,kl->n", now.y, now.y, now.X).clamp_min(0)
        weight = P * torch.einsum("nk,nl,kl->n", now.U, now.U, now.X) / trace
        step = g.square() / P
        finite = torch.isfinite(step)
        drift, shift = (tensor_like(x, g) for x in (f.ripple_drift(a, g, variance.sqrt()), f.ripple_threshold(a, g)))
        return {
            "ripple_threshold": float((weight * torch.nan_to_num(shift)).sum()),
            "ripple_drift": float((step * torch.nan_to_num(drift))[finite].sum() / step[finite].sum()),
        }

    def _matrix_ripple(self, a: States, g: Tensor, now: Oscillation, trace: float) -> Row:
        """The same shares where the ripple of P turns vectors: ⟨u, lost by y⟩/⟨u, y⟩ weighed by X, and along P⁻¹g."""
        f, y = self.context.rule.f, now.y.T
        lost = (now.U.T @ f.ripple_threshold(a, g, y).T) / float(f.threshold(a))
        drift = torch.einsum("kln,kl->n", f.ripple_drift(a, g, y[:, None], y[None]), now.X)
        step = f.velocity(a, torch.zeros_like(g), g)
        return {
            "ripple_threshold": float((lost * now.X).sum()) / trace,
            "ripple_drift": float((step @ drift) / (step @ g)),
        }

    def finals(self) -> Row:
        """Weights after the last step, and the accumulators used in it."""
        return {"weights": self.w, "states": self.context.rule.unpack(self.before, self.context.rule.accumulators)}

    def state(self) -> Mapping[str, Any]:
        """See Process."""
        last = self._last
        return {
            "w": self.w,
            "before": list(self.before),
            "filter": list(self.filter.values),
            "fresh": int(self._fresh),
            "calls": self._calls,
            "values": self._values,
            "since": self._since,
            "rise": self._rise,
            "threshold": self._threshold,
            "tracker": self._tracker.state(),
            "last": {"U": last.U, "T": last.T, "X": last.X, "y": last.y},
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """See Process."""
        self.w, self.before, self._fresh = state["w"], tuple(state["before"]), bool(int(state["fresh"]))
        self.filter.values = tuple(state["filter"])
        self._calls, self._values, self._rise = int(state["calls"]), state["values"], float(state["rise"])
        self._threshold, self._since = float(state["threshold"]), state["since"].to(self.w.device)
        self._tracker.restore(state["tracker"])
        self._last = Oscillation(**state["last"])


def _relaxed(margin: Tensor, threshold: float) -> Tensor:
    """Ask only for a share of a large excess back: X ~ excess/(hℬ) would depend on the step length otherwise."""
    return torch.where(margin < -EXCESS * threshold, SHARE * margin, margin)


def cost_row(clock: list[float]) -> Row:
    """Time per phase in gradients; the first phase is one gradient."""
    grad = clock[1] - clock[0]
    phases = dict(zip(("grad", "eig", "third", "sdcp"), (b - a for a, b in pairwise(clock)), strict=True))
    return {f"cost/{k}": v / grad for k, v in phases.items()} | {"cost/total": (clock[-1] - clock[0]) / grad}
