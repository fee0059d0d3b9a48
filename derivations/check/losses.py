"""Random losses whose derivatives are known in closed form."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st

from derivations.check.draw import vectors
from derivations.check.numbers import Array

DEGREE = 6


@dataclass(frozen=True)
class Ridges:
    """L(w) = ∑_r ∑_k c_rk ⟨a_r, w⟩ᵏ/k!: derivatives at 0 are ∑_r c_rk a_r ⊗ … ⊗ a_r."""

    directions: Array  # (R, n)
    coefficients: Array  # (R, DEGREE)

    def loss(self, w: Array) -> float:
        """L(w)."""
        x = self.directions @ w
        return float(sum(self.coefficients[:, k] @ x ** (k + 1) / math.factorial(k + 1) for k in range(DEGREE)))

    def gradient(self, w: Array) -> Array:
        """∇L(w)."""
        x = self.directions @ w
        slopes = sum(self.coefficients[:, k] * x**k / math.factorial(k) for k in range(DEGREE))
        return np.asarray(slopes @ self.directions)

    def hessian(self) -> Array:
        """∇²L(0)."""
        return np.asarray(np.einsum("r,ri,rj->ij", self.coefficients[:, 1], self.directions, self.directions))

    def third(self, u: Array, v: Array) -> Array:
        """∇³L(0)[u, v]."""
        a = self.directions
        return np.asarray((self.coefficients[:, 2] * (a @ u) * (a @ v)) @ a)


def ridges(n: int, count: int = 3) -> st.SearchStrategy[Any]:
    """Random sums of polynomials along directions."""
    coefficient = st.lists(st.integers(-8, 8), min_size=DEGREE, max_size=DEGREE).map(lambda x: np.array(x) / 4)
    rows = st.lists(coefficient, min_size=count, max_size=count)
    return st.builds(lambda a, c: Ridges(np.array(a) / 2, np.array(c)), vectors(n, count), rows)
