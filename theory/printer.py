r"""LaTeX of expressions, in the names of the catalogue.

A vector is printed by its generic coordinate, g_i; inside a sum over coordinates the running index is j.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import sympy as sp
from sympy.printing.latex import LatexPrinter

from theory.matrices import Apply, Congruence, MatrixSqrt, Outer, Solve, SpectralTrace, SqrtRate
from theory.symbols import BlockTotal, Node, Quantity, Shape, Total, latex_name

# The diagonal of a matrix: its sum over coordinates is the trace.
_DIAGONAL = {"HSH": r"(H\Sigma H)", "Sigma": r"{\Sigma}"}


class _Printer(LatexPrinter):
    """SymPy's printer, with the catalogue's names, shapes as indices, sums over coordinates as norms and products."""

    def __init__(self, index: str = "i") -> None:
        super().__init__({"parenthesize_super": True})
        self.index = index

    def _print(self, expr: Any, **kwargs: Any) -> str:
        """Return what SymPy prints; a part that documents repeat is printed once."""
        if kwargs or not isinstance(expr, sp.Basic):
            return str(super()._print(expr, **kwargs))
        return _printed(expr, self.index)

    def _block(self) -> str:
        return "b" if self.index == "i" else f"b({self.index})"

    def _print_ScalarQuantity(self, s: Quantity) -> str:
        return _name(s)

    def _print_BlockQuantity(self, s: Quantity) -> str:
        return _indexed(_name(s), self._block())

    def _print_ParameterQuantity(self, s: Quantity) -> str:
        return _indexed(_name(s), 2 * self.index if s.name in _DIAGONAL else self.index)

    def _print_MatrixQuantity(self, s: Quantity) -> str:
        return _name(s)

    def _print_Eye(self, e: sp.Expr, exp: str | None = None) -> str:
        return "I"

    def _print_Outer(self, e: Outer, exp: str | None = None) -> str:
        a, b = (self._whole(x) if isinstance(x, Quantity) else rf"\left({self._whole(x)}\right)" for x in e.args)
        return rf"{a} {a}^\top" if a == b else rf"\tfrac12\left({a} {b}^\top + {b} {a}^\top\right)"

    def _print_MatrixSqrt(self, e: MatrixSqrt, exp: str | None = None) -> str:
        inside = self._factor(e.args[0])
        return rf"{{{inside}}}^{{1/2}}" if "^" in inside else rf"{inside}^{{1/2}}"

    def _print_SqrtRate(self, e: SqrtRate, exp: str | None = None) -> str:
        return rf"\mathcal{{L}}_{{{self._print(e.args[0])}}}\left[{self._print(e.args[1])}\right]"

    def _print_Congruence(self, e: Congruence, exp: str | None = None) -> str:
        M, N = (self._factor(x) for x in e.args)
        return rf"{M} {N} {M}"

    def _print_SpectralTrace(self, e: SpectralTrace, exp: str | None = None) -> str:
        return _powered(rf"\operatorname{{tr}}\left({self._print(e.args[0])}\right)", exp)

    def _print_Apply(self, e: Apply, exp: str | None = None) -> str:
        return _powered(_indexed_bracket(self._whole(e), self.index), exp)

    def _print_Solve(self, e: Solve, exp: str | None = None) -> str:
        return _powered(_indexed_bracket(self._whole(e), self.index), exp)

    def _whole(self, x: sp.Expr) -> str:
        """Return a vector without an index."""
        if isinstance(x, Quantity):
            return _name(x)
        M, inside = x.args
        power = "^{-1}" if isinstance(x, Solve) else ""
        return rf"{self._factor(M)}{power} {self._whole(inside)}"

    def _factor(self, M: sp.Expr) -> str:
        printed = self._print(M)
        return printed if isinstance(M, Quantity | MatrixSqrt | SqrtRate) else rf"\left({printed}\right)"

    def _print_Total(self, r: Total, exp: str | None = None) -> str:
        return _powered(self._reduced(r.args[0], "", ""), exp)

    def _print_BlockTotal(self, r: BlockTotal, exp: str | None = None) -> str:
        return _powered(self._reduced(r.args[0], self._block(), rf"\in {self._block()}"), exp)

    def _reduced(self, arg: sp.Expr, block: str, domain: str) -> str:
        """Return ∑ arg over all coordinates, or over those of a block, in the shortest notation there is."""

        def vector(s: Quantity) -> str:
            if not isinstance(s, Quantity):
                return self._whole(s)
            return _indexed(_name(s), block) if block else _name(s)

        factors = list(arg.args)
        if arg == 1:
            return _indexed("n", block) if block else "n"
        if arg.is_Pow and _is_vector(arg.base) and arg.exp == 2:
            return rf"\lVert {vector(arg.base)}\rVert^{{2}}"
        if arg.is_Mul and len(factors) == 2 and all(map(_is_vector, factors)):
            return rf"\langle {vector(factors[0])},{vector(factors[1])}\rangle"
        if isinstance(arg, Quantity) and arg.name in _DIAGONAL and not block:
            return rf"\operatorname{{tr}}{_DIAGONAL[arg.name]}"
        index = chr(ord(self.index) + 1)
        return rf"\sum_{{{index}{domain}}}\left({_Printer(index).doprint(arg)}\right)"

    def _print_Add(self, expr: sp.Add, order: str | None = None) -> str:
        """Return what SymPy prints, but positive terms first: 1 − β₂, not −β₂ + 1."""
        printed = [self._print(term) for term in self._as_ordered_terms(expr, order=order)]
        terms = sorted(printed, key=lambda term: term.startswith("-"))
        return "".join([terms[0], *(f" - {t[1:].strip()}" if t.startswith("-") else f" + {t}" for t in terms[1:])])


@lru_cache(maxsize=65536)
def _printed(expr: sp.Basic, index: str) -> str:
    return str(LatexPrinter._print(_Printer(index), expr))


def _name(s: Quantity) -> str:
    """LaTeX of a symbol's name; a word that is no Greek letter stands upright, lest it looks like a product."""
    latex = latex_name(s.name)
    return rf"\mathrm{{{latex}}}" if latex.isalpha() and len(latex) > 1 else latex


def _is_vector(expr: sp.Expr) -> bool:
    return isinstance(expr, Quantity | Apply | Solve) and expr.shape is Shape.PARAMETER


def _indexed(name: str, index: str) -> str:
    stem, plus = (name[:-4], "^{+}") if name.endswith("^{+}") else (name, "")
    base = f"{{{stem}}}" if any(c in stem for c in "_^'") else stem
    return f"{base}_{{{index}}}{plus}"


def _indexed_bracket(vector: str, index: str) -> str:
    return rf"\left[{vector}\right]_{{{index}}}"


def _powered(printed: str, exp: str | None) -> str:
    if exp is None:
        return printed
    atomic = printed.startswith(r"\langle") or printed == "n"
    return f"{printed}^{{{exp}}}" if atomic else rf"\left({printed}\right)^{{{exp}}}"


@lru_cache(maxsize=16384, typed=True)
def to_latex(expr: sp.Expr) -> str:
    """Return the LaTeX of an expression, in the names of the catalogue."""
    return str(_Printer().doprint(signs_inside(sp.sympify(expr))))


@lru_cache(maxsize=65536)
def signs_inside(expr: sp.Expr) -> sp.Expr:
    """Return the expression with −(β₂ − 1)x written (1 − β₂)x, everywhere."""
    if isinstance(expr, Node) or not expr.args:
        return expr
    expr = expr.func(*[signs_inside(a) for a in expr.args])
    if expr.is_Mul and expr.args[0].is_Rational and expr.args[0] < 0:
        for factor in expr.args[1:]:
            if factor.is_Add and any(term.could_extract_minus_sign() for term in factor.args):
                rest = [f for f in expr.args[1:] if f != factor]
                return sp.Mul(-expr.args[0], sp.Add(*[-term for term in factor.args]), *rest)
    return expr
