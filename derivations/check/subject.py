"""What is checked: a derivation, against the optimizer whose derivation it claims to be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import sympy as sp
from hypothesis import assume

from derivations.check.claim import refute
from derivations.check.discrete import DiscreteOptimizer, FrozenOptimizer
from derivations.check.numbers import Array, Layout
from theory import Derivation
from theory.rule import Update
from theory.symbols import Quantity, Shape


class SettledFlow(NamedTuple):
    """ȧ with filter states at their gain times g: where it exists, its parts by accumulator, and ∂ȧ/∂a."""

    memory: sp.Expr
    stable: dict[str, sp.Expr]
    per_X: dict[str, sp.Expr]
    jacobian: sp.Matrix


@dataclass(frozen=True)
class Subject:
    """A derivation and the recorded update that trains; these differ only where errors are planted."""

    d: Derivation
    update: Update
    layout: Layout = field(default_factory=Layout)

    @cached_property
    def accumulators(self) -> tuple[str, ...]:
        """Names of the accumulators."""
        return tuple(str(a) for a in self.d.normal_form.accumulators)

    @cached_property
    def filters(self) -> tuple[str, ...]:
        """Names of the filter states."""
        return tuple(str(m) for m in self.d.normal_form.filters)

    @cached_property
    def counters(self) -> tuple[str, ...]:
        """Names of the step counters."""
        return tuple(n for n, s in self.update.states.items() if s.counter)

    @cached_property
    def clocks(self) -> tuple[str, ...]:
        """Names of the accumulators that no gradient reaches, as derived."""
        return tuple(str(c) for c in self.d.normal_form.clocks)

    @cached_property
    def driven(self) -> tuple[str, ...]:
        """Names of the other accumulators."""
        return tuple(n for n in self.accumulators if n not in self.clocks)

    @cached_property
    def central_flow(self) -> dict[sp.Symbol, sp.Expr]:
        """The printed central flow, which is expanded anew at each access of the derivation."""
        return self.d.central_flow

    @cached_property
    def stable_flow(self) -> dict[sp.Symbol, sp.Expr]:
        """The printed stable flow."""
        return self.d.stable_flow

    @cached_property
    def settled_flow(self) -> SettledFlow:
        """The accumulators' flow with the filter states eliminated."""
        flow = self.d.flow
        return SettledFlow(
            flow.memory.xreplace(flow.settle),
            {str(a): e.xreplace(flow.settle) for a, e in flow.a_stable.items()},
            {str(a): e.xreplace(flow.settle) for a, e in flow.a_X.items()},
            flow.jacobian.applyfunc(lambda e: e.xreplace(flow.settle)),
        )

    @cached_property
    def document(self) -> str:
        """The LaTeX document."""
        return self.d.to_latex()

    @cached_property
    def scales(self) -> dict[str, sp.Expr]:
        """Factors of bias-corrected filters, by name."""
        return {str(m): c for m, c in self.d.normal_form.scales.items()}

    def optimizer(self, hyper: Mapping[str, float]) -> DiscreteOptimizer:
        """The discrete optimizer at these hyperparameters."""
        return DiscreteOptimizer(self.update, self.layout, hyper)

    def frozen(self, hyper: Mapping[str, float], a: Mapping[str, Array]) -> FrozenOptimizer:
        """The discrete optimizer with its accumulators held."""
        return FrozenOptimizer(self.optimizer(hyper), a, self.filters, self.scales)

    def ahead(self, hyper: Mapping[str, float], states: Mapping[str, Array]) -> dict[str, Array]:
        """The states with clocks as the optimizer's next step advances them."""
        start, zero = self.optimizer(hyper).initial() | dict(states), self.layout.vector(0.0)
        after = self.optimizer(hyper).step(zero, zero, start)[1]
        return dict(states) | {n: after[n] for n in self.clocks if n in states}

    def states(self, given: Mapping[str, Any]) -> dict[str, Array]:
        """Numbers drawn for states, as vectors of the states' shapes."""
        return {n: self.layout.shaped(v, self.update.states[n].shape) for n, v in given.items()}

    def accumulated(self, sample: Mapping[str, Any]) -> dict[str, Array]:
        """The accumulators that were drawn."""
        return {n: v for n, v in self.states(sample["states"]).items() if n in self.accumulators}

    def point(self, hyper: Mapping[str, float], states: Mapping[str, Array], **more: Any) -> dict[sp.Symbol, Any]:
        """Values by symbol: hyperparameters, states, and catalogue symbols by code name."""
        values: dict[sp.Symbol, Any] = {s: hyper[n] for n, s in self.d.update.hyper.items()}
        values |= {self.d.update.old(n): v for n, v in states.items()}
        return values | {CODE[n]: v for n, v in more.items()}

    def preconditioner(self, point: Mapping[sp.Symbol, Any]) -> Array:
        """P at numbers; examples with P = 0 or ∞ are discarded, a negative P is an error."""
        P = self.layout.evaluate(self.d.preconditioner, point)
        values = np.linalg.eigvalsh(P) if P.ndim == 2 and np.isfinite(P).all() else P
        if (values < 0).any() or np.isnan(P).any():
            refute("the preconditioner must be positive", P, "P > 0")
        assume(bool(((values > 1e-12) & (values < 1e12)).all()))
        # The round-off of a solve grows with the condition number: beyond this no two computations can be compared.
        assume(P.ndim == 1 or values[-1] < 1e6 * values[0])
        return P

    def threshold(self, point: Mapping[sp.Symbol, Any]) -> float:
        """λ* at numbers."""
        value = self.layout.number(self.d.threshold, point)
        if not value > 0:
            refute("the threshold must be positive", value, "λ* > 0")
        assume(value < 1e6)
        return value

    def certified(self, hyper: Mapping[str, float]) -> None:
        """Discard hyperparameters at which the derivation itself refuses, since the flip does not come first."""
        from theory import RuleRefused

        try:
            self.d.certify(dict(hyper))
        except RuleRefused:
            assume(False)


def _code() -> dict[str, Quantity]:
    from theory import symbols

    return {s.name: s for s in vars(symbols).values() if isinstance(s, Quantity) and s.shape is not Shape.MATRIX}


CODE = _code()
