"""Random points at the edge of stability of a random cubic loss: critical modes at λ*, and how the margin moves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import sympy as sp
from hypothesis import assume
from hypothesis import strategies as st

from derivations.check import draw
from derivations.check.numbers import Array, as_matrix, divided, root, times
from derivations.check.quadratics import hessian, modes
from derivations.check.rates import Rates, accumulator_rates, moved, weight_rate
from derivations.check.subject import Subject
from theory.symbols import P_matrix

STEP = 1e-3


@dataclass(frozen=True)
class Edge:
    """A point with k critical modes U; ∇²L(w + v) = H + C[v] exactly, T = C[u_i, u_j], y = λ*PU."""

    subject: Subject
    hyper: Mapping[str, float]
    a: Rates
    point: dict[sp.Symbol, Any]
    threshold: float
    P: Array
    H: Array
    C: Array
    U: Array

    @property
    def k(self) -> int:
        """Number of critical modes."""
        return int(self.U.shape[1])

    @property
    def T(self) -> Array:
        """∇H[u_i, u_j], (k, k, n)."""
        return np.asarray(np.einsum("abc,ai,bj->ijc", self.C, self.U, self.U))

    @property
    def y(self) -> Array:
        """Gradient oscillations of the modes, one per row."""
        return self.threshold * times(self.P, self.U).T

    def margin_rate(self, X: Array) -> Array:
        """d/dt Uᵀ(λ*P − H)U along the derived flow with covariance X, by central differences of dense matrices."""
        w_rate = weight_rate(self.subject, self.point, X, self.T)
        a_rates = accumulator_rates(self.subject, self.point, X, self.y)
        relative = [np.abs(r / (0.1 + np.abs(self.a[n]))).max() for n, r in a_rates.items()]
        h = STEP / max(1.0, float(np.abs(root(self.P) @ w_rate).max()), *map(float, relative))
        coarse, fine = (self._difference(x * h, w_rate, a_rates) for x in (1.0, 0.5))
        return np.asarray((4 * fine - coarse) / 3)

    def _difference(self, h: float, w_rate: Array, a_rates: Rates) -> Array:
        up, down = (self._margin(s * w_rate, moved(self.a, a_rates, s)) for s in (h, -h))
        return np.asarray((up - down) / (2 * h))

    def _margin(self, v: Array, a: Rates) -> Array:
        point = self.subject.point(self.hyper, a)
        P = self.subject.layout.evaluate(self.subject.d.preconditioner, point)
        threshold = self.subject.layout.number(self.subject.d.threshold, point)
        H = self.H + np.einsum("abc,c->ab", self.C, v)
        return np.asarray(self.U.T @ (threshold * as_matrix(P) - H) @ self.U)


def edges(subject: Subject) -> st.SearchStrategy[dict[str, Any]]:
    """Numbers for `edge`."""
    n = subject.layout.n
    return st.fixed_dictionaries({
        "hyper": draw.hyperparameters(subject),
        "states": draw.states(subject, first=2),
        "w": draw.vectors(n),
        "g": draw.vectors(n),
        "basis": draw.bases(n),
        "fractions": draw.fractions(n),
        "cubic": draw.cubics(n),
    })


def edge(subject: Subject, sample: Mapping[str, Any], k: int) -> Edge:
    """The point with k modes at λ*; the loss is scaled so that its numbers are of order one in the P-metric."""
    a = subject.accumulated(sample)
    bare = subject.point(sample["hyper"], a)
    P, threshold = subject.preconditioner(bare), subject.threshold(bare)
    half = root(P)
    eigenvalues = [threshold] * k + [f * threshold for f in sample["fractions"][k:]]
    H, U = hessian(P, sample["basis"], eigenvalues), modes(P, sample["basis"])[:, :k]
    C = np.einsum("abc,ai,bj,ck->ijk", sample["cubic"], half, half, half)
    point = subject.point(sample["hyper"], a, w=divided(sample["w"], half), g=half @ sample["g"])
    point |= {P_matrix: P} if P.ndim == 2 else {}
    assume(all(np.isfinite(r).all() for r in accumulator_rates(subject, point).values()))
    return Edge(subject, sample["hyper"], a, point, threshold, P, H, C, U)
