"""Random quadratic losses with chosen eigenvalues of P⁻¹H."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from hypothesis import strategies as st

from derivations.check import draw
from derivations.check.numbers import Array, divided, root
from derivations.check.subject import Subject


def quadratics(subject: Subject, **more: Any) -> st.SearchStrategy[dict[str, Any]]:
    """Hyperparameters, updated states, an orthogonal basis and fractions of λ* for the eigenvalues."""
    n = subject.layout.n
    return st.fixed_dictionaries({
        "hyper": draw.hyperparameters(subject),
        "states": draw.states(subject),
        "basis": draw.bases(n),
        "fractions": draw.fractions(n),
        **more,
    })


def hessian(P: Array, basis: Array, eigenvalues: Sequence[float] | Array) -> Array:
    """H with the given eigenvalues of P⁻¹H, for eigenvectors U = P^−½·basis, UᵀPU = I."""
    half = root(P)
    return np.asarray(half @ (basis * np.asarray(eigenvalues)) @ basis.T @ half)


def modes(P: Array, basis: Array) -> Array:
    """The eigenvectors of P⁻¹H, as columns, UᵀPU = I."""
    return divided(basis, root(P))


def radius(jacobian: Array) -> float:
    """Largest modulus of the eigenvalues."""
    return float(np.abs(np.linalg.eigvals(jacobian)).max())
