"""What a rule may do beyond elementwise arithmetic: sums over coordinates, matrices, the sign of a matrix."""

from __future__ import annotations

import sympy as sp

from theory.matrices import Eye, MatrixSqrt, Outer, Solve
from theory.symbols import BlockTotal, Total


def total(x: sp.Expr) -> sp.Expr:
    r"""Sum over all parameters."""
    return Total(x)


def norm2(x: sp.Expr) -> sp.Expr:
    r"""‖x‖² over all parameters."""
    return Total(x**2)


class MatrixSign(sp.Function):
    """The orthogonal factor of a matrix's polar decomposition: UVᵀ of its singular value decomposition USVᵀ."""


def matrix_sign(x: sp.Expr) -> sp.Expr:
    """The orthogonal factor UVᵀ of a parameter matrix USVᵀ; not differentiable where a singular value vanishes."""
    return MatrixSign(x)


def outer(x: sp.Expr) -> sp.Expr:
    r"""The matrix xxᵀ over all parameters."""
    return Outer(x, x)


def identity() -> sp.Expr:
    """The identity matrix over all parameters."""
    return Eye()


def matrix_sqrt(M: sp.Expr) -> sp.Expr:
    """The root √M ⪰ 0 of a matrix M ⪰ 0."""
    return MatrixSqrt(M)


def solve(M: sp.Expr, x: sp.Expr) -> sp.Expr:
    """The vector M⁻¹x, for a matrix M ≻ 0."""
    return Solve(M, x)


def block_norm2(x: sp.Expr) -> sp.Expr:
    r"""‖x‖² over the parameter tensor to which the coordinate belongs."""
    return BlockTotal(x**2)


def mean(x: sp.Expr) -> sp.Expr:
    """Average over all parameters."""
    return Total(x) / Total(sp.S.One)


def block_mean(x: sp.Expr) -> sp.Expr:
    """Average over the parameter tensor to which the coordinate belongs."""
    return BlockTotal(x) / BlockTotal(sp.S.One)
