"""Equations for a terminal: SymPy expressions and the chain's LaTeX as Unicode text."""

from __future__ import annotations

import re
import textwrap
from typing import Any

import sympy as sp
from sympy.printing.precedence import PRECEDENCE
from sympy.printing.str import StrPrinter

from theory.derivation import Derivation, Step

_COMMANDS = {
    r"\tfrac12": "½",
    r"\nabla": "∇",
    r"\langle": "⟨",
    r"\rangle": "⟩",
    r"\lambda": "λ",
    r"\Sigma": "Σ",
    r"\sigma^2": "σ²",
    r"\gamma": "γ",
    r"\chi": "χ",
    r"\delta": "δ",
    r"\lVert": "‖",
    r"\rVert": "‖",
    r"\top": "ᵀ",
    r"\ell": "ℓ",
    r"\rho": "ρ",
    r"\Phi": "Φ",
    r"\Gamma": "Γ",
    r"\tau": "τ",
    r"\omega": "ω",
    r"\varrho": "ϱ",
    r"\alpha": "α",
    r"\varphi": "φ",
    r"\bar P": "P̄",
    r"\infty": "∞",
    r"\min": "min",
    r"\sum": " ∑ ",
    r"\preceq": " ⪯ ",
    r"\max": "max",
    r"\cdot": "·",
    r"\eta": "η",
    r"\nu": "ν",
    r"\beta": "β",
    r"\epsilon": "ε",
    r"\times": "×",
    r"\le": "≤",
    r"\ge": "≥",
    r"\operatorname{tr}": "tr ",
    r"\left": "",
    r"\right": "",
    r"\;": " ",
    r"\,": " ",
    r"\!": "",
    r"\ ": " ",
    r"\quad": "  ",
}
_PATTERNS = (
    (r"\\[td]?frac\{(\w+)\}\{(\w+)\}", r"\1/\2"),
    (r"\\tfrac\{([^{}]*)\}\{([^{}]*)\}", r"\1/\2"),
    (r"\\sqrt\{([^{}]*)\}", r"√(\1)"),
    (r"\\tfrac\s*\\gamma2", "γ/2"),
    (r"\\text\{([^{}]*)\}", r" \1 "),
    (r"\\(?:mathbb|mathcal|mathrm|text|operatorname)\s*\{?(\w+)\}?", r"\1"),
)
_DOT = re.compile(r"\\dot\s*(?:\{(\w+)\}|(\w))")


class _Printer(StrPrinter):
    """SymPy's own text, with sums over coordinates written as sums, and matrices as matrices."""

    def _print_Total(self, expr: sp.Expr) -> str:
        return f"∑({self._print(expr.args[0])})"

    def _print_BlockTotal(self, expr: sp.Expr) -> str:
        return f"∑_block({self._print(expr.args[0])})"

    def _print_MatrixQuantity(self, s: sp.Symbol) -> str:
        return {"HSigmaH": "HΣH", "SigmaMatrix": "Σ"}.get(s.name, s.name)

    def _print_Eye(self, expr: sp.Expr) -> str:
        return "I"

    def _print_Outer(self, expr: sp.Expr) -> str:
        a, b = (self._print(x) if x.is_Symbol else f"({self._print(x)})" for x in expr.args)
        return f"{a}·{b}ᵀ" if a == b else f"½({a}·{b}ᵀ + {b}·{a}ᵀ)"

    def _print_MatrixSqrt(self, expr: sp.Expr) -> str:
        return f"{self.parenthesize(expr.args[0], PRECEDENCE['Pow'])}^½"

    def _print_SqrtRate(self, expr: sp.Expr) -> str:
        return f"𝓛_{self.parenthesize(expr.args[0], PRECEDENCE['Pow'])}[{self._print(expr.args[1])}]"

    def _print_Apply(self, expr: sp.Expr) -> str:
        return "·".join(self.parenthesize(x, PRECEDENCE["Pow"]) for x in expr.args)

    def _print_Solve(self, expr: sp.Expr) -> str:
        M, x = (self.parenthesize(x, PRECEDENCE["Pow"]) for x in expr.args)
        return f"{M}⁻¹·{x}"

    def _print_Congruence(self, expr: sp.Expr) -> str:
        M, N = map(self._print, expr.args)
        return f"{M}·{N}·{M}"

    def _print_SpectralTrace(self, expr: sp.Expr) -> str:
        return f"tr({self._print(expr.args[0])})"


def plain(expr: Any) -> str:
    """Return an expression, or LaTeX text, as text."""
    return unicode_maths(expr) if isinstance(expr, str) else str(_Printer().doprint(expr))


def unicode_maths(latex: str) -> str:
    """Return LaTeX as Unicode, as far as the chain uses LaTeX; what is unknown stays as it is."""
    for pattern, replacement in _PATTERNS:
        latex = re.sub(pattern, replacement, latex)
    for command in sorted(_COMMANDS, key=len, reverse=True):
        if command[1].isalpha() and command[-1].isalpha():
            latex = re.sub(re.escape(command) + r"(?![a-zA-Z]) ?", _COMMANDS[command], latex)
        else:
            latex = latex.replace(command, _COMMANDS[command])
    latex = _DOT.sub(lambda match: f"{match[1] or match[2]}\u0307", latex)
    latex = re.sub(r"\{([^{}]*)\}", r"\1", latex)
    return latex.replace("^*", "*").replace("^ᵀ", "ᵀ").strip()


def derivation_text(d: Derivation) -> str:
    """Return the whole derivation as text."""
    parts = [f"{d.rule.name}: {d.rule.doc}", *(_step(number, step) for number, step in enumerate(d.steps, 1))]
    if d.rule.references:
        parts.append("\n".join(["References", *(f"  {reference}" for reference in d.rule.references)]))
    return "\n\n".join(parts) + "\n"


def _step(number: int, step: Step) -> str:
    reference = f"  [{step.reference}]" if step.reference else ""
    lines = [
        f"{number}. {step.title}{reference}",
        *textwrap.wrap(unicode_maths(step.justification), 100, initial_indent="   ", subsequent_indent="   "),
    ]
    width = max((len(label) for label, _, _ in step.equations), default=0)
    lines += [f"     {label:<{width}}   {_equation(left, plain(right))}" for label, left, right in step.equations]
    lines += [f"   assumes: {assumption}" for assumption in step.assumptions]
    lines += [f"   {'verified' if held else 'NOT verified'}: {claim}" for claim, held in (step.checks or {}).items()]
    return "\n".join(lines)


def _equation(left: Any, right: str) -> str:
    shown = plain(left)
    if shown.endswith("_dot"):
        shown = f"d{shown.removesuffix('_dot')}/dt"
    if shown.endswith(", ·"):  # the chain writes "σ² = max(0, ·), · = …"
        return shown.removesuffix(", ·").replace("·", right)
    return f"{shown} = {right}"
