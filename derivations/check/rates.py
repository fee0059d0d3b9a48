"""Numbers of a derived flow: rates of parameters and accumulators, with a covariance on modes."""

from __future__ import annotations

from typing import Any

import numpy as np
import sympy as sp
from hypothesis import assume

from derivations.check.numbers import Array
from derivations.check.subject import CODE, Subject

Rates = dict[str, Array]


def accumulator_rates(subject: Subject, point: dict[sp.Symbol, Any], X: Array | None = None, y: Any = ()) -> Rates:
    """ȧ by name, filter states eliminated: stable part plus ∑ X_kl a_X(y_k, y_l).

    Args:
        subject: whose flow is evaluated.
        point: values by symbol, with the mean gradient g.
        X: covariance on the modes.
        y: the modes' gradient oscillations.

    Returns:
        One vector per accumulator.
    """
    flow, layout = subject.settled_flow, subject.layout
    # Where ∂f/∂a is singular, as at β₂ = 0, an accumulator has no memory and (T7) does not exist.
    assume(bool((layout.evaluate(flow.memory, point) != 0).all()))
    rates = {}
    for a, stable in flow.stable.items():
        rates[a] = layout.evaluate(stable, point)
        for k, j in np.ndindex(len(y), len(y)):
            assert X is not None
            if X[k, j]:
                pair = point | {CODE["y"]: y[k], CODE["y2"]: y[j]}
                rates[a] += X[k, j] * layout.evaluate(flow.per_X[a], pair)
    return rates


def weight_rate(subject: Subject, point: dict[sp.Symbol, Any], X: Array | None = None, T: Any = ()) -> Array:
    """ẇ: stable part plus ∑ X_kl w_X(T_kl)."""
    flow, layout = subject.d.flow, subject.layout
    rate = layout.evaluate(flow.w_stable, point)
    for k, j in np.ndindex(len(T), len(T)):
        assert X is not None
        rate = rate + X[k, j] * layout.evaluate(flow.w_X, point | {CODE["T"]: T[k][j]})
    return rate


def jacobian(subject: Subject, point: dict[sp.Symbol, Any]) -> Array:
    """∂ȧ/∂a per coordinate, (n, A, A), as derived."""
    J = subject.settled_flow.jacobian
    size = len(subject.accumulators)
    entries = [[subject.layout.evaluate(J[i, j], point) for j in range(size)] for i in range(size)]
    return np.moveaxis(np.array(entries), -1, 0)


def implicit(subject: Subject, point: dict[sp.Symbol, Any], rates: Rates, h: float = 1.0) -> Rates:
    """The solution x of (1 − h ∂ȧ/∂a)x = d per coordinate, or per entry with one Jacobian for all where there is a matrix."""
    J = jacobian(subject, point)
    if any(np.ndim(r) == 2 for r in rates.values()):
        inverse = np.linalg.inv(np.eye(len(rates)) - h * J[0])
        values = list(rates.values())
        return {
            n: sum(c * v for c, v in zip(row, values, strict=True) if c) for n, row in zip(rates, inverse, strict=True)
        }
    rate = np.array(list(rates.values())).T
    change = np.linalg.solve(np.eye(len(rates)) - h * J, rate[..., None])[..., 0]
    return {n: change[:, k] for k, n in enumerate(rates)}


def moved(states: Rates, rates: Rates, h: float) -> Rates:
    """Accumulators after a short time."""
    return {n: v + h * rates[n] for n, v in states.items()}
