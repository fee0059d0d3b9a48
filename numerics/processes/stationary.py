r"""The stationary flow (THEORY section 7): the preconditioner sits at its fixed point P̄(w), and Σ is the multiplier there.

(T8) with P = P̄(w), the solution of (T14), and Σ "defined by (T10) for that P(w)". What (T10) says once P = P̄(w) at all times:

1. P̄(w) is feasible, λ*P̄(w) − H(w) ⪰ 0, at every w. So the margin is never negative, whatever moves w, and where a mode is critical
   over a stretch of time, UᵀȦU = 0 there. (T10), 0 ⪯ X ⟂ UᵀȦU ⪰ 0 with Ṗ = dP̄/dw·ẇ, then holds for *every* X ⪰ 0 on critical modes:
   it says where Σ may live and does not determine it.
2. What determines Σ is that P̄(w) be the fixed point: (T13), ψ⁻¹(p_i) − g_i² = λ*²p_i²Σ_ii. With Σ on the null space of the margin this is
   the KKT system of (T14), whose multiplier is Z = λ*Σ. We use **Σ = Z/λ***. It satisfies (T10), by 1, with Z ⟂ λ*P̄ − H.
3. It is the limit of the central flow as the accumulator's rate c = (1 − β₂)/β₂ → ∞: (T11) divided by c becomes
   0 ⪯ X ⟂ Uᵀ(dP/dν)[g² + HΣH − ν]U ⪰ 0, the same system. For scalar RMSProp the closed form of section 5 tends to η²/4 − ‖∇L‖²/S².
   The reading that Ṗ = 0 in (T10), as for a constant preconditioner, has another limit and leaves (T13) unbalanced; tests tell them apart.

A scalar P has one multiplier, λ*² tr Σ = Φ′(p̄). With several modes at the edge, p̄ = S/λ* follows their common largest eigenvalue and
(T10) is needed after all, for how the trace is shared: 0 ⪯ X ⟂ μ1 − (modes at the end of the step) ⪰ 0, with μ such that tr Σ is right.

Time is after the bias corrections: decays b^t are at their limit. A filter acts on P̄⁻¹∇L instead of ∇L: the same where P̄ is slow, and
bounded where a gradient changes sign, at which P̄ is small while the filter still remembers the gradient before.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from numerics.boundary import to_numpy, to_tensor
from numerics.derivatives import LocalDerivatives
from numerics.eigen import Modes
from numerics.lowered import States
from numerics.preconditioner import PreconditionerSolution, stationary_preconditioner
from numerics.processes.averaged import AveragedFlow, Here, Oscillation
from numerics.processes.filters import OwnFilter
from numerics.processes.process import Context, ProcessStopped, Row, tensor_like, tracker, vectors_like
from numerics.processes.propagator import Propagator
from numerics.sdcp import solve_with_trace

# Relative duality gap with which (T14) is solved; in single precision what that allows.
GAP = {torch.float64: 1e-8, torch.float32: 1e-4}
# Of the tracker that finds a scalar P̄ = S/λ*: S is accurate to about a tenth of this.
SHARP = 1e-7
# Directions with less than this of the largest variance that is possible are left out.
NEGLIGIBLE = 1e-9


class StepFilter(OwnFilter):
    """The rule's filter behind the preconditioner: its states are those of P⁻¹g."""

    def __init__(self, context: Context, states: States) -> None:
        super().__init__(context.rule, states)
        self.context = context

    def start(self, a: States, g: Tensor) -> None:
        """Rescale the optimizer's states, which are those of g."""
        self.values = tuple(self._step(a, m) for m in self.values)

    def means(self, a: States, g: Tensor) -> tuple[States, States]:
        """See Filter; in the units of g."""
        P, (old, new) = self.context.preconditioner(a), super().means(a, self._step(a, g))
        return tuple(P * m for m in old), tuple(P * m for m in new)

    def drive(self, a: States, g: Tensor, h: float) -> Tensor:
        """See Filter."""
        return self.context.preconditioner(a) * super().drive(a, self._step(a, g), h)

    def advance(self, a: States, g: Tensor, h: float) -> None:
        """See Filter."""
        super().advance(a, self._step(a, g), h)

    def _step(self, a: States, g: Tensor) -> Tensor:
        """P⁻¹g, 0 where P and g are."""
        P = self.context.preconditioner(a)
        return torch.where(P > 0, g / P, torch.zeros_like(g))


class StationaryFlow(AveragedFlow):
    """Accumulators at rest at every w; the multiplier of their program is the oscillation."""

    def __init__(self, context: Context, w: Tensor, states: States, name: str = "stationary", **options: Any) -> None:
        super().__init__(context, w, states, name, oscillates=True, **options)
        self._tracker.period = 1  # a scalar P̄ puts the first guards near the edge
        self._solution: PreconditionerSolution | None = None
        self._scale: Tensor | None = None  # a scalar P̄ of the step before
        self._gap = 0.0
        self.scalar = hasattr(context.rule.f, "slope")
        self._sharpness = tracker(context, tol=SHARP)
        if context.rule.filters:
            self.filter = StepFilter(context, states)
        self.threshold = float(context.rule.f.threshold(self._at_rest(w.new_ones(1))))

    def _at_rest(self, P: Tensor) -> States:
        """Accumulators ψ⁻¹(P), a long time after the start."""
        return vectors_like(self.context.rule.f.accumulators_at_rest(self.before, (P,)), self.before)

    def _updated(self, local: LocalDerivatives, h: float) -> States:
        return self._at_rest(self._scalar_rest(local) if self.scalar else self._diagonal_rest(local))

    def _diagonal_rest(self, local: LocalDerivatives) -> Tensor:
        """P̄ of (T14), continued from the step before.

        Raises:
            ProcessStopped: If the duality gap stays above its tolerance.
        """
        eta, eps = map(float, self.context.rule.f.program())
        tol, before = GAP.get(local.grad.dtype, 1e-4), self._solution
        product, g = local.hessian_product, local.grad
        self._solution = stationary_preconditioner(product, g, eta, self.threshold, eps=eps, tol=tol, start=before)
        self._gap = self._solution.gap
        if self._solution.status != "optimal":
            raise ProcessStopped(
                f"the {self.name} flow did not find the fixed point of the preconditioner: duality gap {self._gap:.1e} instead of {tol:.0e}"
            )
        p: Tensor = self._solution.p
        return p

    def _scalar_rest(self, local: LocalDerivatives) -> Tensor:
        """P̄ = max(S/λ*, its value without oscillation); the gap is the residual of S, a bound of its relative error."""
        free = tensor_like(self.context.rule.f.free_preconditioner(local.grad), local.grad).reshape(1)
        scale = free if self._scale is None else self._scale
        modes = self._sharpness.track(local.hessian_product, scale.reshape(()), self.threshold / 2)
        self._gap = float(modes.residuals[0])
        self._scale = torch.maximum(free, modes.values[:1] * scale / self.threshold)
        return self._scale

    def _critical(self, modes: Modes, threshold: float) -> Tensor:
        if self.scalar:
            return super()._critical(modes, threshold)
        assert self._solution is not None, "the fixed point is found before its modes"
        p, factor = self._solution.p, self._solution.factor
        values, Q = torch.linalg.eigh(factor.T @ (p[:, None] * factor) / threshold)
        # A multiplier of the size of the gap is no oscillation.
        floor = max(NEGLIGIBLE, self._gap) * self._size(p)
        self._variances = values[values > floor].flip(0)
        U: Tensor = factor @ Q[:, values > floor].flip(1) / (threshold * self._variances).sqrt()
        return U

    def _size(self, p: Tensor) -> float:
        """∑η²p, to which the duality gap is relative, as a variance: at the edge tr X = ∑Φ′p/λ* ≤ ∑η²p/λ*."""
        return float(self.context.rule.f.program()[0]) ** 2 * float(p.sum()) / self.threshold

    def _close(
        self, here: Here, U: Tensor, T: Tensor, smooth: Tensor, through: float, propagator: Propagator, h: float
    ) -> tuple[Oscillation, Row]:
        k, P, threshold = U.shape[1], here.P, here.threshold
        y = threshold * (P * U.T).T
        if not self.scalar:
            return Oscillation(U, T, torch.diag(self._variances), y), {"sdcp_status": 0.0}
        # tr X = p tr Σ and λ*² tr Σ = Φ′(p).
        f = self.context.rule.f
        trace = float(P) * float(tensor_like(f.slope((P.reshape(1),), here.local.grad), P)) / threshold**2
        if not k or trace <= 0:
            return Oscillation.none(self.w), {"sdcp_status": 0.0}
        force, flat = f.velocity_X(here.a, T), T.reshape(k * k, -1)
        A = torch.diag(here.modes.values[0] - here.modes.values[:k]) - (flat @ smooth).reshape(k, k)
        B = -(flat @ propagator.displace(through * force, force).reshape(k * k, -1).T).reshape(k, k, k, k)
        X = solve_with_trace(to_numpy((A + A.T) / 2), to_numpy(B), trace)
        return Oscillation(U, T, to_tensor(X, U), y), {"sdcp_status": 0.0}

    def _row(self, here: Here, now: Oscillation) -> Row:
        row = super()._row(here, now) | {"gap": self._gap}
        return {name: value for name, value in row.items() if name not in map("states_series/{}".format, self._clocks)}

    @property
    def _clocks(self) -> list[str]:
        """Step counters, which stand at infinity here."""
        return [n for n, s in self.context.rule.states.items() if s.counter]

    def finals(self) -> Row:
        """See Process."""
        final = super().finals()
        return final | {"states": {n: v for n, v in final["states"].items() if n not in self._clocks}}

    def state(self) -> Mapping[str, Any]:
        """See Process."""
        factor = None if self._solution is None else self._solution.factor
        return {**super().state(), "factor": factor, "scale": self._scale, "sharpness": self._sharpness.state()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """See Process."""
        super().restore(state)
        self._sharpness.restore(state["sharpness"])
        self._scale = state["scale"]
        if state["factor"] is not None:
            self._solution = PreconditionerSolution(None, state["factor"], 0.0, "optimal", 0.0, 0.0, 0.0, 0)
