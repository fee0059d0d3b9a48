"""What every function of the emitted code must return at a sample, from the expressions it was emitted for."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import sympy as sp

from derivations.check.numbers import Array
from derivations.check.rates import implicit, moved
from derivations.check.subject import CODE, Subject
from theory.symbols import Quantity, Shape, shape_of, z

ROUND_OFF = 1e-9
DIFFERENCES = 1e-6
LENGTH = 0.3
"""Of the implicit step that is tried."""


class Typed(NamedTuple):
    """One entry per parameter, and how many of them are distinct."""

    numbers: Array
    shape: Shape


class Expected(NamedTuple):
    """Results of the function of this name."""

    name: str
    results: list[Typed]
    tolerance: float = ROUND_OFF
    scale: float = 0.0  # of the numbers that were subtracted


def signatures(source: str) -> dict[str, tuple[str, ...]]:
    """Names of the arguments of each function in emitted source, without the first, the hyperparameters."""
    functions = [node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)]
    return {f.name: tuple(a.arg for a in f.args.args[1:]) for f in functions}


class Case:
    """Arguments and expected results of the emitted functions at one sample."""

    def __init__(self, subject: Subject, sample: Mapping[str, Any]) -> None:
        self.subject, self.sample, self.form = subject, sample, subject.d.normal_form
        self.states = subject.states(sample["states"])
        self.shifts = subject.states(sample["shifts"])
        more = {n: sample[n] for n in ("w", "g", "y", "y2", "q", "T")}
        self.point = subject.point(sample["hyper"], self.states, **more)
        self.point |= {self.form.outputs[m]: self.states[str(m)] + sample["g"] for m in self.form.filters}
        subject.preconditioner(self.point)

    def argument(self, name: str) -> Any:
        """The value of an argument, by its name in the emitted source."""
        form, states = self.form, self.subject.update.states
        rates = {n: Typed(self.shifts[n], states[n].shape) for n in self.subject.accumulators}
        tuples = {
            "a": [self._of(a, a.shape) for a in form.accumulators],
            "filters": [self._of(m, m.shape) for m in form.filters],
            "filters_next": [self._of(form.outputs[m], m.shape) for m in form.filters],
            "a_dot": list(rates.values()),
            "d": list(rates.values()),
            "s": [Typed(self.states[n], s.shape) for n, s in states.items()],
        }
        if name in tuples:
            return tuples[name]
        return LENGTH if name == "h" else Typed(self.sample[name], Shape.PARAMETER)

    def expectations(self) -> Iterator[Expected]:
        """Yield what each function returns."""
        flow, form, d = self.subject.d.flow, self.form, self.subject.d
        for name, exprs in (
            (
                "advance_clocks",
                {a: a + LENGTH * (f - a) if a in form.clocks else a for a, f in form.accumulators.items()},
            ),
            ("accumulator_map", {a: a if a in form.clocks else f for a, f in d.averages.mean.items()}),
            ("accumulator_rate", {a: 0 * a if a in form.clocks else f for a, f in flow.a_stable.items()}),
            ("accumulator_rate_X", flow.a_X),
            ("accumulator_rate_cross", flow.a_cross),
            ("filter_map", form.filters),
            ("settled", {m: CODE["g"] * form.gains[m].subs(z, 1) for m in form.filters}),
        ):
            yield Expected(name, [self._of(e, s.shape) for s, e in exprs.items()])
        for name, expr, shape in (
            ("memory", flow.memory, shape_of(flow.memory)),
            ("preconditioner", form.P, form.shape),
            ("threshold", d.threshold, Shape.SCALAR),
            ("velocity", flow.w_stable, Shape.PARAMETER),
            ("velocity_X", flow.w_X, Shape.PARAMETER),
            ("drive", form.drive, Shape.PARAMETER),
            ("feedthrough", form.feedthrough, Shape.SCALAR),
            ("lag", form.lag, Shape.SCALAR),
            ("pole_start", form.pole_start, Shape.PARAMETER),
        ):
            yield Expected(name, [self._of(expr, shape)])
        size = float(np.abs(self._of(form.P, form.shape).numbers).max())
        yield Expected("preconditioner_rate", [Typed(self._slope(form.P), form.shape)], DIFFERENCES, size)
        yield Expected("implicit", self._implicit())
        yield Expected("unit_filters", self._unit_filters())
        yield Expected("step", self._step())

    def _implicit(self) -> list[Typed]:
        """The solution x of (1 − h ∂ȧ/∂a)x = d per coordinate."""
        names = self.subject.accumulators
        if not names:
            return []
        solved = implicit(self.subject, self.point, {n: self.shifts[n] for n in names}, LENGTH)
        return [Typed(solved[n], self.subject.update.states[n].shape) for n in names]

    def _unit_filters(self) -> list[Typed]:
        frozen = self.subject.frozen(self.sample["hyper"], self.states)
        return [Typed(self.states[str(m)] * frozen.scale(str(m), self.states), m.shape) for m in self.form.filters]

    def _step(self) -> list[Typed]:
        optimizer = self.subject.optimizer(self.sample["hyper"])
        w_next, after = optimizer.step(self.sample["w"], self.sample["g"], self.states)
        states = self.subject.update.states
        return [Typed(w_next, Shape.PARAMETER), *(Typed(after[n], s.shape) for n, s in states.items())]

    def _slope(self, expr: sp.Expr) -> Array:
        """D expr along the accumulators' rates, by a fourth-order difference."""
        layout, h = self.subject.layout, 1e-3
        rates = {n: self.shifts[n] for n in self.subject.accumulators}
        start = {n: self.states[n] for n in rates}

        def at(x: float) -> Array:
            there = {self.subject.d.update.old(n): v for n, v in moved(start, rates, x * h).items()}
            return layout.evaluate(expr, self.point | there)

        return np.asarray((8 * (at(1) - at(-1)) - (at(2) - at(-2))) / (12 * h))

    def _of(self, expr: sp.Expr | Quantity, shape: Shape) -> Typed:
        return Typed(self.subject.layout.evaluate(expr, self.point), shape)
