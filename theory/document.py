r"""The document of a derivation: what it says, in order, before any format is chosen.

A document is a list of blocks. Prose is Unicode with mathematical characters, formulas are LaTeX; `latex`, `markdown` and
`html` only decide how a block looks.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sympy as sp

from theory.display import equation_lines, width
from theory.matrices import SqrtRate
from theory.printer import to_latex
from theory.symbols import CATALOGUE, Quantity, Shape, latex_name, quantity, wdot
from theory.thresholds import at_numbers, numbers_used, threshold_forms

if TYPE_CHECKING:
    from collections.abc import Iterable

    from theory.derivation import Derivation, Step


@dataclass(frozen=True)
class Maths:
    """LaTeX of a formula within a line or a cell."""

    latex: str


Cell = str | Maths


@dataclass(frozen=True)
class Heading:
    """Title of a section; ``reference`` says where its equations come from."""

    text: str
    reference: str = ""


@dataclass(frozen=True)
class Paragraph:
    """Prose."""

    text: str


@dataclass(frozen=True)
class Equation:
    """A displayed equation in lines that fit a page, see `equation_lines`."""

    label: str
    lines: tuple[str, ...]


@dataclass(frozen=True)
class Items:
    """A list, introduced by ``lead``."""

    entries: tuple[str, ...]
    lead: str = ""
    ordered: bool = False


@dataclass(frozen=True)
class Table:
    """A table."""

    header: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]


Block = Heading | Paragraph | Equation | Items | Table


@dataclass(frozen=True)
class Document:
    """A derivation as blocks in order; ``rule`` is its name."""

    rule: str
    blocks: tuple[Block, ...]

    @property
    def title(self) -> str:
        """Title of the whole."""
        return f"Central flow of {self.rule}"


NOTATION = (
    "Vectors are written by their generic coordinate i; j runs over all coordinates, and b is the parameter tensor that "
    "contains the coordinate. A superscript ⁺ marks the value after the step, a dot the derivative in time; a unit of "
    "time is one step."
)
MATRIX_NOTATION = "Matrices are written without indices, and the coordinate i of the vector Mx as [Mx]ᵢ."
# Symbols that equations use as text, so that no SymPy symbol stands for them.
_ALWAYS = (
    (r"L,\ \nabla L", "full-batch training loss and its gradient"),
    ("H", "Hessian of L"),
    (r"\mathbb E", "time average over the oscillation, at the present point of the flow"),
    (r"\Sigma", "covariance of the oscillation about the averaged iterate"),
    (r"U,\ X", "critical modes, UᵀPU = 1, and the covariance in their coordinates, Σ = UXUᵀ"),
    (r"\lambda^{*}", "stability threshold of the eigenvalues λ of P⁻¹H"),
)
_SHAPES = {
    Shape.SCALAR: "one number",
    Shape.BLOCK: "one per parameter tensor",
    Shape.PARAMETER: "one per parameter",
    Shape.MATRIX: "a symmetric matrix over all parameters",
}
_LYAPUNOV = (
    r"\mathcal{L}_{V}\left[D\right]",
    "derivative of the root R of V along D, the solution Y of Lyapunov's equation RY + YR = D",
)
_SUFFIXES = ("_next", "_dot")
_CELL = 14.0  # widest formula of a table, as `width` measures


def to_document(d: Derivation) -> Document:
    """Lay out a derivation in the order in which a paper would give it.

    Args:
        d: the derivation.

    Returns:
        Rule, notation, the steps of the chain, thresholds, assumptions and references.
    """
    chosen = ", ".join(f"{n} = {e}" for n, e in d.update.schedules.items())
    blocks: list[Block] = [
        *([Paragraph(d.rule.doc)] if d.rule.doc else []),
        *([Paragraph(f"Schedules: {chosen}.")] if chosen else []),
        Heading("Symbols"),
        Paragraph(NOTATION),
        *([Paragraph(MATRIX_NOTATION)] if d.normal_form.shape is Shape.MATRIX else []),
        _symbol_table(d),
    ]
    for number, step in enumerate(d.steps, start=1):
        blocks += [Heading(f"{number} {step.title}", step.reference), *step_blocks(d, step)]
    blocks += [Heading("Threshold"), *_thresholds(d)]
    blocks += [Heading("Assumptions"), Items(d.assumptions, ordered=True)]
    if d.rule.references:
        blocks += [Heading("References"), Items(d.rule.references)]
    return Document(d.rule.name, tuple(blocks))


def step_blocks(d: Derivation, step: Step) -> Iterable[Block]:
    """Yield what a step says below its title: why, equations, what it assumes, what SymPy checked."""
    yield Paragraph(step.justification)
    for label, left, right in step.equations:
        shown = "" if step.name == "update" else label  # the label of an assignment is its left side
        yield Equation(
            shown, equation_lines(left_side(d, left), right if isinstance(right, str) else sp.sympify(right))
        )
    if step.assumptions:
        yield Items(step.assumptions, "Assumed:")
    if step.checks:
        outcomes = {True: ".", False: ": not confirmed."}
        yield Items(tuple(claim + outcomes[bool(held)] for claim, held in step.checks.items()), "Checked symbolically:")


def left_side(d: Derivation, side: Any) -> str:
    """Return a left side as LaTeX: from a code name such as ``nu_next``, an expression, or LaTeX as it stands."""
    if not isinstance(side, str):
        return to_latex(side)
    if side.endswith(_SUFFIXES):
        name = next(side[: -len(s)] for s in _SUFFIXES if side.endswith(s))
        shape = d.update.states[name].shape if name in d.update.states else Shape.PARAMETER
        return to_latex(quantity(side, shape))
    if side == "P":
        return to_latex(quantity("P", d.normal_form.shape))
    side = re.sub(r"f_\{(\w+)\}", lambda m: f"f_{{{latex_name(m[1])}}}", side)
    if side.startswith(latex_name("wdot")):
        side = side.replace(latex_name("wdot"), to_latex(wdot), 1)
    return side.replace(r"\cdot", "R")


def _thresholds(d: Derivation) -> Iterable[Block]:
    forms = list(threshold_forms(d))
    for form in forms:
        yield Equation(form.meaning, equation_lines(form.left, form.expr))
    used = ", ".join(f"{n} = {v:g}" for n, v in numbers_used(d).items())
    if used:
        yield Paragraph(f"At {used}:")
    yield Table(("stable up to", "value"), tuple((f.meaning, _number(f.expr)) for f in at_numbers(d, forms)))


def _number(value: sp.Expr) -> Cell:
    """Six digits, or the expression that is left if it is short."""
    if value.is_number:
        return Maths(f"{float(value):.6g}")
    latex = to_latex(value.replace(lambda e: e.is_Float, lambda e: sp.Float(f"{float(e):.6g}", 6)))
    return Maths(latex) if width(latex) <= _CELL else "depends on " + ", ".join(sorted(map(str, value.free_symbols)))


def _symbol_table(d: Derivation) -> Table:
    rights = [sp.sympify(r) for step in d.steps for _, _, r in step.equations if not isinstance(r, str)]
    used: dict[str, Quantity] = {}
    for s in sorted(set().union(*(r.free_symbols for r in rights)), key=str):
        if isinstance(s, Quantity):
            base = re.sub(r"(_next|_dot)$", "", s.name)
            used[base] = quantity(base, s.shape)
    always = (*_ALWAYS, _LYAPUNOV) if any(r.has(SqrtRate) for r in rights) else _ALWAYS
    rows = [(Maths(latex), meaning, "") for latex, meaning in always]
    shown = {latex for latex, _ in always}
    rows += [(Maths(to_latex(s)), *_meaning(d, name)) for name, s in used.items() if to_latex(s) not in shown]
    return Table(("symbol", "meaning", "kind"), tuple(rows))


def _meaning(d: Derivation, name: str) -> tuple[str, str]:
    known = CATALOGUE[name].meaning if name in CATALOGUE else name
    if name in map(str, d.normal_form.held):
        return "what the step reads of the clocks", ""
    if name in d.rule.hyper:
        declared = d.rule.hyper[name]
        default = "" if declared.default is None else f", default {declared.default:g}"
        return known, f"hyperparameter in {declared.domain}{default}"
    if name in d.update.states:
        role = "filter state" if name in map(str, d.normal_form.filters) else "accumulator"
        return known, f"{role}, {_SHAPES[d.update.states[name].shape]}"
    return known, ""
