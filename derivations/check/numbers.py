"""Numbers for symbolic expressions, without the emitted code: every quantity is a vector with one entry per parameter.

A scalar is a constant vector and a per-tensor state is constant on the tensor's coordinates, so that SymPy's own translation
to NumPy needs no shapes; `Total` and `BlockTotal` are sums that are spread again. Matrices are (n, n), and numbers that scale them
constant vectors.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import count
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import sympy as sp

from theory.symbols import Quantity, Shape, quantity, shape_of

Array = npt.NDArray[np.float64]
TINY = 1e-300
Values = Mapping[sp.Symbol, Any]


@dataclass(frozen=True)
class Layout:
    """Sizes of the parameter tensors that the parameters consist of."""

    blocks: tuple[int, ...] = (2, 1)

    @cached_property
    def n(self) -> int:
        """Number of parameters."""
        return sum(self.blocks)

    @cached_property
    def owner(self) -> npt.NDArray[np.intp]:
        """The tensor to which each parameter belongs."""
        owner: npt.NDArray[np.intp] = np.repeat(np.arange(len(self.blocks)), self.blocks)
        return owner

    def vector(self, x: Any) -> Array:
        """One entry per parameter."""
        spread: Array = np.empty(self.n)
        spread[...] = x
        return spread

    def total(self, x: Any) -> Array:
        """The sum over all parameters."""
        return self.vector(self.vector(x).sum())

    def block_total(self, x: Any) -> Array:
        """The sum over each tensor."""
        sums = np.bincount(self.owner, weights=self.vector(x), minlength=len(self.blocks))
        spread: Array = np.asarray(sums, dtype=float)[self.owner]
        return spread

    def shaped(self, x: Any, shape: Shape) -> Array:
        """A vector made constant where a state of this shape is, by its first entry there; a matrix as it is."""
        if shape is Shape.MATRIX:
            return np.asarray(x, dtype=float)
        x = self.vector(x)
        first = np.unique(self.owner, return_index=True)[1]
        per_block: Array = x[first][self.owner]
        table: dict[Shape, Array] = {Shape.SCALAR: self.vector(x[0]), Shape.BLOCK: per_block, Shape.PARAMETER: x}
        return table[shape]

    def reduced(self, x: Array, shape: Shape) -> Array:
        """The distinct numbers of a vector of this shape, or a matrix."""
        if shape is Shape.MATRIX:
            return x
        first = np.unique(self.owner, return_index=True)[1]
        distinct = {Shape.SCALAR: x[:1], Shape.BLOCK: x[first], Shape.PARAMETER: x}
        return distinct[shape]

    def evaluate(self, expr: sp.Expr, values: Values) -> Array:
        """An expression at numbers.

        Args:
            expr: in symbols that all have values.
            values: number, vector or matrix for each symbol.

        Returns:
            One entry per parameter, or per pair of them for a matrix; not finite where the expression is not.
        """
        compiled = _compiled(sp.sympify(expr), self)
        # βᵗ log β has the limit 0 at β = 0, where its factors are 0 and −∞.
        limits = {s: TINY for s in compiled.logarithms if s in values and np.all(values[s] == 0)}
        values = dict(values) | limits if limits else values
        with np.errstate(all="ignore"):
            result = compiled.function(*(self._spread(s, values[s]) for s in compiled.symbols))
        return self._matrix(result) if compiled.matrix else self.vector(result)

    def _spread(self, s: sp.Symbol, value: Any) -> Array:
        return self._matrix(value) if isinstance(s, Quantity) and s.shape is Shape.MATRIX else self.vector(value)

    def _matrix(self, x: Any) -> Array:
        return np.array(np.broadcast_to(np.asarray(x, dtype=float), (self.n, self.n)))

    def number(self, expr: sp.Expr, values: Values) -> float:
        """A scalar expression at numbers."""
        return float(self.evaluate(expr, values)[0])


class _Compiled(NamedTuple):
    """A function of values of these symbols, what stands in a logarithm by itself, and whether the value is a matrix."""

    function: Callable[..., Any]
    symbols: tuple[sp.Symbol, ...]
    logarithms: frozenset[sp.Expr]
    matrix: bool


@lru_cache(maxsize=4096)
def _compiled(expr: sp.Expr, layout: Layout) -> _Compiled:
    symbols = tuple(sorted(expr.free_symbols, key=str))
    operations = {"Total": layout.total, "BlockTotal": layout.block_total, "Eye": lambda: np.eye(layout.n)} | _MATRICES
    # A shared part has one shape only where none is a matrix.
    shared = not any(isinstance(s, Quantity) and s.shape is Shape.MATRIX for s in symbols)
    function: Callable[..., Any] = sp.lambdify(
        symbols, expr, modules=[operations, "numpy"], cse=_shared if shared else False
    )
    return _Compiled(
        function, symbols, frozenset(e.args[0] for e in expr.atoms(sp.log)), shape_of(expr) is Shape.MATRIX
    )


def _shared(expr: Any) -> Any:
    """Common subexpressions by name, each a vector, so that no sum over parameters takes one for a factor."""
    return sp.cse(expr, symbols=(quantity(f"shared{k}", Shape.PARAMETER) for k in count()), list=False)


def times(P: Array, x: Array) -> Array:
    """Px, for a diagonal (n,) or a matrix (n, n), of a vector or of columns."""
    return np.asarray(P @ x if P.ndim == 2 else (P * x.T).T)


def divided(x: Array, P: Array) -> Array:
    """P⁻¹x, likewise."""
    return np.asarray(np.linalg.solve(P, x) if P.ndim == 2 else (x.T / P).T)


def as_matrix(P: Array) -> Array:
    """P as a matrix (n, n)."""
    return P if P.ndim == 2 else np.diag(P)


def root(P: Array) -> Array:
    """P^½ as a matrix (n, n)."""
    if P.ndim == 1:
        return np.diag(np.sqrt(P))
    values, Q = np.linalg.eigh(P)
    return np.asarray((Q * np.sqrt(values.clip(min=0))) @ Q.T)


def _rate_of_root(V: Array, D: Array) -> Array:
    S = root(V)
    from scipy.linalg import solve_sylvester  # takes longer to import than `--help` to print

    return np.asarray(solve_sylvester(S, S, D))


_MATRICES: dict[str, Callable[..., Any]] = {
    "Outer": lambda a, b: (np.outer(a, b) + np.outer(b, a)) / 2,
    "MatrixSqrt": root,
    "SqrtRate": _rate_of_root,
    "Apply": lambda M, x: M @ x,
    "Solve": np.linalg.solve,
    "Congruence": lambda M, N: M @ N @ M,
}
