"""(T1): the roots of χ(z; λ) are eigenvalues of the step's exact Jacobian, at any λ."""

from __future__ import annotations

from typing import Any

import numpy as np
import sympy as sp
from hypothesis import strategies as st

from derivations.check.claim import Claim, Evidence, Sample, refute
from derivations.check.quadratics import hessian, quadratics
from derivations.check.subject import Subject
from theory.symbols import lam, z

TOLERANCE = 1e-5  # a double root moves by the square root of round-off


def inputs(subject: Subject) -> st.SearchStrategy[dict[str, Any]]:
    return quadratics(subject, eigenvalue=st.integers(1, 200).map(lambda k: k / 4))


def holds(subject: Subject, sample: Sample) -> Evidence:
    a = subject.accumulated(sample)
    point = subject.point(sample["hyper"], a)
    P = subject.preconditioner(point)
    value = sample["eigenvalue"]
    jacobian = subject.frozen(sample["hyper"], a).jacobian(hessian(P, sample["basis"], [value] * subject.layout.n))
    eigenvalues = np.linalg.eigvals(jacobian)
    coefficients = [subject.layout.number(c, point | {lam: value}) for c in _coefficients(subject)]
    worst = 0.0
    for root in np.roots(coefficients):
        distance = float(np.abs(eigenvalues - root).min()) / max(1.0, abs(root))
        if not distance <= TOLERANCE:
            refute(
                f"a root of χ(z; λ) at λ = {value:g} is no eigenvalue of the step", root, np.sort_complex(eigenvalues)
            )
        worst = max(worst, distance)
    return Evidence(worst)


def _coefficients(subject: Subject) -> list[sp.Expr]:
    return list(sp.Poly(subject.d.stability.polynomial, z).all_coeffs())


CLAIM = Claim("the roots of χ(z; λ) are eigenvalues of the step", "(T1)", 2, inputs, holds, 30)
