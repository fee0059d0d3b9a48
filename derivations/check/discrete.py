"""The optimizer as it was written: recorded assignments evaluated one after another, nothing derived.

`DiscreteOptimizer` makes steps. `FrozenOptimizer` holds the accumulators at chosen updated values, so that a step is linear in
(w, filter states, g), as the linear theory has it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import sympy as sp

from derivations.check.numbers import Array, Layout
from theory.clock import undone
from theory.rule import Update
from theory.symbols import Shape
from theory.symbols import g as g_symbol
from theory.symbols import w as w_symbol

States = dict[str, Array]


@dataclass(frozen=True)
class DiscreteOptimizer:
    """A recorded update at fixed hyperparameters."""

    update: Update
    layout: Layout
    hyper: Mapping[str, float]

    def initial(self) -> States:
        """All states before the first step."""
        vector, eye = self.layout.vector, np.eye(self.layout.n)
        return {
            n: s.initial * eye if s.shape is Shape.MATRIX else vector(s.initial) for n, s in self.update.states.items()
        }

    def step(self, w: Array, g: Array, states: States, held: Mapping[str, Array] | None = None) -> tuple[Array, States]:
        """One step, in the order of the rule's own assignments.

        Args:
            w: parameters.
            g: gradient.
            states: before the step.
            held: updated values that replace what the rule would assign.

        Returns:
            Parameters and states after the step.
        """
        values = {symbol: self.hyper[n] for n, symbol in self.update.hyper.items()} | {w_symbol: w, g_symbol: g}
        values |= {self.update.old(n): v for n, v in states.items()}
        after, w_next = dict(states), w
        for equation in self.update.equations:
            name = equation.state
            fixed = held or {}
            value = fixed[name] if name in fixed else self.layout.evaluate(equation.expr, values)
            if name == "w":
                w_next = value
            else:
                after[name] = values[self.update.new(name)] = value
        return w_next, after


@dataclass(frozen=True)
class FrozenOptimizer:
    """An optimizer whose accumulators stay at ``a``, their updated values; filter states are in units of the gradient.

    ``scales`` are the factors between filter states of unit gain and the rule's own, in the updated counter.
    """

    optimizer: DiscreteOptimizer
    a: Mapping[str, Array]
    filters: tuple[str, ...]
    scales: Mapping[str, sp.Expr] = field(default_factory=dict)

    def before(self) -> States:
        """Accumulators before the step that leads to ``a``: clocks are one step behind, a counter one less."""
        update, layout = self.optimizer.update, self.optimizer.layout
        values = {symbol: self.optimizer.hyper[n] for n, symbol in update.hyper.items()}
        values |= {update.new(n): v for n, v in self.a.items()}
        behind = {update.old(n): n for n in self.a}
        back = {behind[old]: e for old, e in undone(update).items() if old in behind}
        return dict(self.a) | {n: layout.evaluate(e, values) for n, e in back.items()}

    def step(self, w: Array, filters: Mapping[str, Array], g: Array) -> tuple[Array, dict[str, Array]]:
        """One step from (w, filter states) with a gradient.

        Returns:
            Parameters and filter states after it.
        """
        before = self.before()
        raw = {n: m / self.scale(n, before) for n, m in filters.items()}
        w_next, after = self.optimizer.step(w, g, before | raw, held=self.a)
        return w_next, {n: after[n] * self.scale(n, self.a) for n in self.filters}

    def rest(self) -> dict[str, Array]:
        """Filter states that are zero."""
        return {n: np.zeros(self.optimizer.layout.n) for n in self.filters}

    def scale(self, name: str, a: Mapping[str, Array]) -> Array:
        """Unit-gain state per raw state, for the filter of this name at these accumulators."""
        update, layout = self.optimizer.update, self.optimizer.layout
        values = {symbol: self.optimizer.hyper[n] for n, symbol in update.hyper.items()}
        values |= {update.old(n): v for n, v in a.items()}
        return layout.evaluate(self.scales.get(name, sp.S.One), values)

    @cached_property
    def filter_response(self) -> tuple[Array, Array]:
        """A (n, K, K) and B (n, K) with m⁺ = Am + Bg per coordinate, found by steps from unit states."""
        n, K = self.optimizer.layout.n, len(self.filters)
        zero, one = np.zeros(n), np.ones(n)
        A, B = np.zeros((n, K, K)), np.zeros((n, K))
        for j, name in enumerate(self.filters):
            after = self.step(zero, self.rest() | {name: one}, zero)[1]
            A[:, :, j] = np.array([after[m] for m in self.filters]).T
        if K:
            after = self.step(zero, self.rest(), one)[1]
            B[:] = np.array([after[m] for m in self.filters]).T
        return A, B

    def periodic(self, mean: Array, flip: Array) -> tuple[dict[str, Array], dict[str, Array]]:
        """Filter states after a step, for the gradient mean ± flip that has changed sign each step for ever.

        Returns:
            The states after a step with the gradient mean + flip, and after one with mean − flip.
        """
        A, B = self.filter_response
        eye = np.eye(len(self.filters))
        settled = np.linalg.solve(eye - A, (B * mean[:, None])[..., None])[..., 0]
        swing = np.linalg.solve(eye + A, (B * flip[:, None])[..., None])[..., 0]
        plus, minus = settled + swing, settled - swing
        up, down = ({n: x[:, k] for k, n in enumerate(self.filters)} for x in (plus, minus))
        return up, down

    def jacobian(self, hessian: Array) -> Array:
        """Exact derivative of one step in (w, filter states) on the loss ½⟨w, Hw⟩, by unit vectors."""
        n, K = self.optimizer.layout.n, len(self.filters)
        columns = []
        for unit in np.eye(n * (1 + K)):
            w, *m = unit.reshape(1 + K, n)
            w_next, after = self.step(w, dict(zip(self.filters, m, strict=True)), hessian @ w)
            columns.append(np.concatenate([w_next, *(after[name] for name in self.filters)]))
        return np.array(columns).T
