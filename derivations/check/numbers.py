"""Numbers for symbolic expressions, without the emitted code: every quantity is a vector with one entry per parameter.

A scalar is a constant vector and a per-tensor state is constant on the tensor's coordinates, so that SymPy's own translation
to NumPy needs no shapes; `Total` and `BlockTotal` are sums that are spread again.
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

from theory.symbols import Shape, quantity

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
        """A vector made constant where a state of this shape is, by its first entry there."""
        x = self.vector(x)
        first = np.unique(self.owner, return_index=True)[1]
        per_block: Array = x[first][self.owner]
        table: dict[Shape, Array] = {Shape.SCALAR: self.vector(x[0]), Shape.BLOCK: per_block, Shape.PARAMETER: x}
        return table[shape]

    def reduced(self, x: Array, shape: Shape) -> Array:
        """The distinct numbers of a vector of this shape."""
        first = np.unique(self.owner, return_index=True)[1]
        distinct = {Shape.SCALAR: x[:1], Shape.BLOCK: x[first], Shape.PARAMETER: x}
        return distinct[shape]

    def evaluate(self, expr: sp.Expr, values: Values) -> Array:
        """An expression at numbers.

        Args:
            expr: in symbols that all have values.
            values: number or vector for each symbol.

        Returns:
            One entry per parameter; not finite where the expression is not.
        """
        compiled = _compiled(sp.sympify(expr), self)
        # βᵗ log β has the limit 0 at β = 0, where its factors are 0 and −∞.
        limits = {s: TINY for s in compiled.logarithms if s in values and np.all(values[s] == 0)}
        values = dict(values) | limits if limits else values
        with np.errstate(all="ignore"):
            return self.vector(compiled.function(*(self.vector(values[s]) for s in compiled.symbols)))

    def number(self, expr: sp.Expr, values: Values) -> float:
        """A scalar expression at numbers."""
        return float(self.evaluate(expr, values)[0])


class _Compiled(NamedTuple):
    """A function of values of these symbols, and what stands in a logarithm by itself."""

    function: Callable[..., Any]
    symbols: tuple[sp.Symbol, ...]
    logarithms: frozenset[sp.Expr]


@lru_cache(maxsize=4096)
def _compiled(expr: sp.Expr, layout: Layout) -> _Compiled:
    symbols = tuple(sorted(expr.free_symbols, key=str))
    operations = {"Total": layout.total, "BlockTotal": layout.block_total}
    function: Callable[..., Any] = sp.lambdify(symbols, expr, modules=[operations, "numpy"], cse=_shared)
    return _Compiled(function, symbols, frozenset(e.args[0] for e in expr.atoms(sp.log)))


def _shared(expr: Any) -> Any:
    """Common subexpressions by name, each a vector, so that no sum over parameters takes one for a factor."""
    return sp.cse(expr, symbols=(quantity(f"shared{k}", Shape.PARAMETER) for k in count()), list=False)
