"""(T11): on two critical modes of a cubic loss the solved X is PSD, keeps the margin, and is complementary to its rate."""

from __future__ import annotations

import numpy as np
import sympy as sp
from hypothesis import assume

from derivations.check.claim import Claim, Evidence, Sample, agree, refute
from derivations.check.edges import Edge, edge, edges
from derivations.check.numbers import Array
from derivations.check.rates import accumulator_rates
from derivations.check.subject import CODE, Subject
from theory.complementarity import margin_rate
from theory.symbols import Quantity, Shape, quantity, wdot

MODES = 2
TOLERANCE = 1e-5  # central differences of the margin


def holds(subject: Subject, sample: Sample) -> Evidence:
    from numerics.sdcp import solve_sdcp

    at = edge(subject, sample, MODES)
    A, B = _stable(at), _per_X(at)
    worst = _agree_on_pairs(at, B)
    solution = solve_sdcp((A + A.T) / 2, (B + B.transpose(1, 0, 2, 3)) / 2)
    assume(solution.status == "optimal" and float(np.abs(solution.X).max()) < 1e3)
    X, rate = solution.X, at.margin_rate(solution.X)
    size = max(1.0, float(np.abs(A).max()), float(np.abs(rate - A).max()))
    if np.linalg.eigvalsh(X)[0] < -1e-7 * max(1.0, float(np.abs(X).max())):
        refute("X ⪰ 0", X, "smallest eigenvalue ≥ 0")
    if np.linalg.eigvalsh(rate)[0] < -TOLERANCE * size:
        refute("the margin's rate must stay ⪰ 0", A + np.einsum("ijkl,kl->ij", B, X), rate)
    gap = float(np.vdot(X, rate)) / max(1.0, float(np.abs(X).max()))
    return Evidence(max(worst, agree("⟨X, rate of the margin⟩", 0.0, gap, TOLERANCE, size)))


def _stable(at: Edge) -> Array:
    expr = at.subject.d.complementarity.stable
    return np.array([[_pair(at, expr, i, j) for j in range(at.k)] for i in range(at.k)])


def _pair(at: Edge, expr: sp.Expr, i: int, j: int, **more: Array) -> float:
    values = at.point | {CODE["u"]: at.U[:, i], CODE["v"]: at.U[:, j], CODE["T"]: at.T[i, j]}
    return at.subject.layout.number(expr, values | {CODE[n]: v for n, v in more.items()})


def _per_X(at: Edge) -> Array:
    """ℬ'_ijkl: the rate of margin (i, j) that a unit of X on (k, l) causes."""
    subject, form = at.subject, at.subject.d.normal_form
    dots: dict[Quantity, sp.Expr] = {a: quantity(f"{a}_dot", max(a.shape, Shape.PARAMETER)) for a in form.accumulators}
    expr = margin_rate(form, subject.d.stability, wdot, dots)
    B = np.zeros((at.k,) * 4)
    for k, m in np.ndindex(at.k, at.k):
        unit = np.zeros((at.k, at.k))
        unit[k, m] = 1.0
        rates = _difference(accumulator_rates(subject, at.point, unit, at.y), accumulator_rates(subject, at.point))
        force = subject.layout.evaluate(subject.d.flow.w_X, at.point | {CODE["T"]: at.T[k, m]})
        values = {dots[a]: rates[str(a)] for a in dots} | {wdot: force}
        for i, j in np.ndindex(at.k, at.k):
            pair = at.point | {CODE["u"]: at.U[:, i], CODE["v"]: at.U[:, j], CODE["T"]: at.T[i, j]}
            B[i, j, k, m] = subject.layout.number(expr, pair | values)
    return B


def _difference(a: dict[str, Array], b: dict[str, Array]) -> dict[str, Array]:
    return {n: a[n] - b[n] for n in a}


def _agree_on_pairs(at: Edge, B: Array) -> float:
    """The derived coefficient of a pair is ℬ'_ijij."""
    per_X, size = at.subject.d.complementarity.per_X, max(1.0, float(np.abs(B).max()))
    pairs = np.ndindex(at.k, at.k)
    return max(agree("ℬ on a pair of modes", _pair(at, per_X, i, j), B[i, j, i, j], scale=size) for i, j in pairs)


CLAIM = Claim("X ⪰ 0 keeps the margin ⪰ 0 and is complementary to it", "(T11)", 5, edges, holds, 20)
