r"""Matrices in R^(n×n) by nodes: ggᵀ, I, √V and its derivative, and the maps x ↦ Mx and x ↦ M⁻¹x on vectors.

A matrix enters by its generic entry, as a vector does by its coordinate, so that sums and scalar factors are SymPy's own. All
matrices are symmetric. Products with a matrix are linear in both arguments and written so: M⁻¹M and I cancel, scalars stand outside.
"""

from __future__ import annotations

from typing import Any

import sympy as sp

from theory.calculus import opaquely
from theory.errors import RuleRefused
from theory.symbols import Node, Quantity, Shape, Total, shape_of

_HALF = sp.Rational(1, 2)


class _MatrixNode(Node):
    shape = Shape.MATRIX
    is_real = True
    is_number = False


class _VectorNode(Node):
    shape = Shape.PARAMETER
    is_real = True
    is_number = False


class Eye(_MatrixNode):
    """The identity I."""

    nargs = 0


class Outer(_MatrixNode):
    r"""½(abᵀ + baᵀ), symmetric and bilinear; Outer(g, g) = ggᵀ."""

    @classmethod
    def eval(cls, a: sp.Expr, b: sp.Expr) -> sp.Expr | None:
        """Canonical form: expanded over sums, scalars outside, arguments in order."""
        for at in (0, 1):
            expanded = _linear(cls, (a, b), at)
            if expanded is not None:
                return expanded
        first, second = sorted((a, b), key=sp.default_sort_key)
        return None if first == a else cls(first, second)

    def _eval_derivative(self, s: sp.Symbol) -> sp.Expr:
        a, b = self.args
        return Outer(sp.diff(a, s), b) + Outer(a, sp.diff(b, s))


class MatrixSqrt(_MatrixNode):
    r"""√V, the symmetric positive semidefinite root of a positive semidefinite matrix."""

    def _eval_derivative(self, s: sp.Symbol) -> sp.Expr:
        return SqrtRate(self.args[0], sp.diff(self.args[0], s))


class SqrtRate(_MatrixNode):
    r"""𝓛_V[D], the derivative of √V along D: the solution of √V 𝓛 + 𝓛 √V = D (Lyapunov's equation), linear in D."""

    @classmethod
    def eval(cls, V: sp.Expr, D: sp.Expr) -> sp.Expr | None:
        """Canonical form: expanded over sums of D, scalars outside; 𝓛_V[V] = ½√V."""
        if D == V:
            return MatrixSqrt(V) / 2
        return _linear(cls, (V, D), 1)

    def _eval_derivative(self, s: sp.Symbol) -> sp.Expr:
        V, D = self.args
        if s in V.free_symbols:
            raise RuleRefused("the second derivative of a matrix square root is not derived: use it in P only.")
        return SqrtRate(V, sp.diff(D, s))


class Congruence(_MatrixNode):
    """The matrix MNM."""


class SpectralTrace(Node):
    """Tr φ(P), for φ written as a function of an eigenvalue of P."""

    is_real = True
    is_number = False


class Apply(_VectorNode):
    """The vector Mx, linear in M and x; M M⁻¹x = x and Ix = x."""

    @classmethod
    def eval(cls, M: sp.Expr, x: sp.Expr) -> sp.Expr | None:
        """Canonical form: expanded over both sums, scalars outside."""
        expanded = _linear(cls, (M, x), 1)
        if expanded is not None:
            return expanded
        if isinstance(x, Solve) and (ratio := _ratio(M, x.args[0])) is not None:
            return ratio * x.args[1]
        if isinstance(M, Eye):
            return x
        if isinstance(M, Outer):
            a, b = M.args
            return (a * Total(b * x) + b * Total(a * x)) / 2
        return _linear(cls, (M, x), 0)

    def _eval_derivative(self, s: sp.Symbol) -> sp.Expr:
        M, x = self.args
        return Apply(sp.diff(M, s), x) + Apply(M, sp.diff(x, s))


class Solve(_VectorNode):
    """The vector M⁻¹x, linear in x, for a positive definite M."""

    @classmethod
    def eval(cls, M: sp.Expr, x: sp.Expr) -> sp.Expr | None:
        """Canonical form: expanded over sums of x, scalars of M and x outside."""
        if isinstance(x, Apply) and x.args[0] == M:
            return x.args[1]
        expanded = _linear(cls, (M, x), 1)
        if expanded is not None:
            return expanded
        scalar, rest = _split(M)
        if isinstance(rest, Eye):
            return x / scalar
        return None if rest == M else cls(rest, x) / scalar

    def _eval_derivative(self, s: sp.Symbol) -> sp.Expr:
        M, x = self.args
        return Solve(M, sp.diff(x, s)) - Solve(M, Apply(sp.diff(M, s), self))


def applied(M: sp.Expr, x: sp.Expr) -> sp.Expr:
    """Mx for a scalar, diagonal or full M."""
    return Apply(M, x) if shape_of(M) is Shape.MATRIX else M * x


def divided(x: sp.Expr, M: sp.Expr) -> sp.Expr:
    """M⁻¹x for a scalar, diagonal or full M."""
    return Solve(M, x) if shape_of(M) is Shape.MATRIX else x / M


def common_matrix(expr: sp.Expr) -> tuple[sp.Expr, sp.Expr]:
    """Write an expression as M⁻¹x with one matrix M for all its terms.

    Args:
        expr: a vector.

    Returns:
        M and x; M = 1 if no term contains an inverse.

    Raises:
        RuleRefused: If the terms have different matrices, or some have none.
    """
    matrices = {node.args[0] for node in expr.atoms(Solve)}
    if not matrices:
        return sp.S.One, expr
    M = matrices.pop()
    inside = expr.replace(lambda e: isinstance(e, Solve), lambda e: e.args[1])
    if matrices or sp.expand(Solve(M, inside) - expr) != 0:
        raise RuleRefused(f"the step {expr} is not of the form M⁻¹x with one matrix M: put all of it under one solve.")
    return M, inside


def refuse_entrywise(expr: sp.Expr, place: str) -> None:
    """Let linear combinations of matrices with scalar factors pass.

    Args:
        expr: an expression of a rule.
        place: rule and line, for the message.

    Raises:
        RuleRefused: If a matrix is multiplied, divided or transformed entry by entry, or added to what is no matrix.
    """
    for e in sp.preorder_traversal(expr):
        if isinstance(e, Node) or shape_of(e) is not Shape.MATRIX or isinstance(e, Quantity):
            continue
        shapes = sorted(shape_of(a) for a in e.args)
        linear = e.is_Mul and shapes[:-1] == [Shape.SCALAR] * (len(shapes) - 1)
        if not linear and not (e.is_Add and set(shapes) == {Shape.MATRIX}):
            raise RuleRefused(
                f"{place} treats a matrix entry by entry in {e}: add matrices, scale them by numbers, and use outer, matrix_sqrt, "
                "identity and solve for the rest."
            )


def _linear(cls: Any, args: tuple[sp.Expr, sp.Expr], at: int) -> sp.Expr | None:
    """Expand a node over the sum and the scalar factors of one argument; None if there is nothing to expand."""

    def with_argument(x: sp.Expr) -> sp.Expr:
        return cls(*(x if i == at else a for i, a in enumerate(args)))

    given, arg = args[at], sp.expand(args[at])
    if arg.is_zero:
        return sp.S.Zero
    if arg.is_Add:
        return sp.Add(*[with_argument(term) for term in arg.args])
    scalar, rest = _split(arg)
    if scalar != 1:
        return scalar * with_argument(rest)
    return None if arg == given else with_argument(arg)


def _split(expr: sp.Expr) -> tuple[sp.Expr, sp.Expr]:
    """Scalar factors, and the rest."""
    factored = opaquely(sp.factor, expr) if expr.is_Add else expr
    content, primitive = factored.primitive() if factored.is_Add else (sp.S.One, factored)
    scalars = [f for f in sp.Mul.make_args(primitive) if shape_of(f) is Shape.SCALAR]
    rest = [f for f in sp.Mul.make_args(primitive) if shape_of(f) is not Shape.SCALAR]
    return content * sp.Mul(*scalars), sp.Mul(*rest)


def _ratio(M: sp.Expr, N: sp.Expr) -> sp.Expr | None:
    """The number M/N if there is one."""
    (a, left), (b, right) = _split(M), _split(N)
    return a / b if left == right else None
