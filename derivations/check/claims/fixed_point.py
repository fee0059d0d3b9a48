"""(T13): with w held, a long integration of the accumulators with (T11) settles where the derived equation says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import sympy as sp
from hypothesis import assume
from hypothesis import strategies as st

from derivations.check import draw
from derivations.check.claim import Claim, Evidence, Sample, agree, refute
from derivations.check.numbers import Array, as_matrix, divided, root, times
from derivations.check.rates import Rates, accumulator_rates, moved
from derivations.check.subject import CODE, Subject
from theory.matrix_fixed_point import eigenvalue
from theory.symbols import Shape, Sigma_matrix

STEPS, STRIDE, SETTLED = 400, 0.2, 1e-7
TOLERANCE = 1e-4
AFTER_LONG = 400  # bias corrections have died out, schedules have not


def inputs(subject: Subject) -> st.SearchStrategy[dict[str, Any]]:
    n = subject.layout.n
    entries = st.lists(st.integers(-8, 8), min_size=n * n, max_size=n * n)
    return st.fixed_dictionaries({
        "hyper": draw.hyperparameters(subject),
        "g": draw.nonzero(n),
        "H": entries.map(lambda x: np.array(x).reshape(n, n) / 4).map(lambda M: M @ M.T),
    })


def holds(subject: Subject, sample: Sample) -> Evidence:
    P, Sigma, S, point = _settle(subject, sample["hyper"], sample["g"], sample["H"])
    values = point | {CODE["S"]: S, CODE["Sigma"]: np.diag(Sigma), Sigma_matrix: Sigma, CODE["P"]: P}
    fixed = subject.d.fixed_point
    values[fixed.p] = P
    worst = 0.0
    if fixed.stationary is not None:
        terms = np.abs(subject.layout.evaluate(fixed.inverse, _sized(values, P))) if fixed.inverse is not None else P
        rest = subject.layout.evaluate(fixed.stationary, values)
        worst = agree("what vanishes at rest", rest, 0 * rest, TOLERANCE, float(terms.max()))
    if fixed.solution is not None:
        worst = max(worst, agree("P at rest", subject.layout.evaluate(fixed.solution, values), P, TOLERANCE))
    return Evidence(worst)


def _sized(values: dict[sp.Symbol, Any], P: Array) -> dict[sp.Symbol, Any]:
    """ψ⁻¹ of a matrix is a function of its eigenvalues."""
    return values | {eigenvalue: np.linalg.eigvalsh(P)} if P.ndim == 2 else values


def _settle(subject: Subject, hyper: Mapping[str, float], g: Array, H: Array) -> tuple[Array, Array, float, Any]:
    """Integrate ȧ at fixed (g, H), with the X of (T11) on all modes, until it rests: P, diag Σ, ‖H‖ and values there."""
    size, kept = subject.layout.n, list(subject.driven)
    largest = {
        n: 4.0 * (np.eye(size) if subject.update.states[n].shape is Shape.MATRIX else np.ones(size)) for n in kept
    }
    a = subject.states(largest) | _clocks_after_long(subject, hyper)
    X = U = np.zeros((subject.layout.n,) * 2)
    for _ in range(STEPS):
        point = subject.point(hyper, a, g=g)
        P, threshold = subject.preconditioner(point), subject.threshold(point)
        assume(all((np.abs(a[n]) > 1e-9).any() for n in kept))
        half = root(P)
        values, Q = np.linalg.eigh(divided(divided(H, half).T, half))
        U = divided(Q, half)
        still = _without_clock(subject, accumulator_rates(subject, point))
        speed = max(float(np.abs(still[n] / (np.abs(a[n]) + 0.1)).max()) for n in kept)
        h = STRIDE / max(1.0, speed, _stiffness(subject, point))
        X, rates = _balance(subject, hyper, a, point, threshold * times(P, U).T, values, U, threshold, h, still)
        a = moved(a, rates, h)
        if max(float(np.abs(rates[n]).max() / np.abs(a[n]).max()) for n in kept) < SETTLED:
            break
    else:
        assume(False)
    P = subject.preconditioner(subject.point(hyper, a, g=g))
    margin = float(np.linalg.eigvalsh(threshold * as_matrix(P) - H)[0])
    if margin < -TOLERANCE * threshold * float(P.max()):
        refute("at rest H ⪯ λ*P", margin, "≥ 0")
    return P, U @ X @ U.T, float(np.linalg.eigvalsh(H)[-1]), subject.point(hyper, a, g=g)


def _balance(
    subject: Subject,
    hyper: Mapping[str, float],
    a: Rates,
    point: Any,
    y: Array,
    values: Array,
    U: Array,
    threshold: float,
    h: float,
    still: Rates,
) -> tuple[Array, Rates]:
    """The X with which the margin is kept at the end of a step, and the accumulators' rates with it."""
    from numerics.sdcp import solve_sdcp

    k = len(values)
    A = np.diag(threshold - values) + threshold * U.T @ times(_P_rate(subject, hyper, a, still), U) * h
    B, per = np.zeros((k,) * 4), {}
    for i, j in np.ndindex(k, k):
        unit = np.zeros((k, k))
        unit[i, j] = unit[j, i] = 0.5 if i != j else 1.0
        rates = _without_clock(subject, accumulator_rates(subject, point, unit, y))
        per[i, j] = {n: rates[n] - still[n] for n in rates}
        B[:, :, i, j] = h * threshold * U.T @ times(_P_rate(subject, hyper, a, per[i, j]), U)
    assume(bool(np.isfinite(A).all() and np.isfinite(B).all()))  # P has no slope where an accumulator is 0
    solution = solve_sdcp((A + A.T) / 2, B)
    assume(solution.status == "optimal")
    rates = {n: still[n] + sum(solution.X[i, j] * per[i, j][n] for i, j in per) for n in still}
    return solution.X, rates


def _P_rate(subject: Subject, hyper: Mapping[str, float], a: Rates, rates: Rates) -> Array:
    size = max(1e-12, *(float(np.abs(r).max()) for r in rates.values()))
    h = 1e-5 / size
    up, down = (
        subject.layout.evaluate(subject.d.preconditioner, subject.point(hyper, moved(a, rates, s))) for s in (h, -h)
    )
    return np.asarray((up - down) / (2 * h))


def _stiffness(subject: Subject, point: Any) -> float:
    """Largest rate of relaxation of an accumulator."""
    J = subject.settled_flow.jacobian
    return max(float(np.abs(subject.layout.evaluate(J[i, i], point)).max()) for i in range(J.shape[0]))


def _without_clock(subject: Subject, rates: Rates) -> Rates:
    return {n: 0 * r if n in subject.clocks else r for n, r in rates.items()}


def _clocks_after_long(subject: Subject, hyper: Mapping[str, float]) -> Rates:
    clocks = {n: v for n, v in subject.optimizer(hyper).initial().items() if n in subject.clocks}
    for _ in range(AFTER_LONG):
        clocks = subject.ahead(hyper, clocks)
    return clocks


def missing(subject: Subject) -> str | None:
    fixed = getattr(subject.d, "fixed_point", None)
    if fixed is None:
        return "no fixed point is derived"
    return None if fixed.status in {"program", "scalar", "matrix"} else f"{fixed.reason}"


CLAIM = Claim("a long integration at fixed w settles at the fixed point", "(T13), (T14)", 7, inputs, holds, 4, missing)
