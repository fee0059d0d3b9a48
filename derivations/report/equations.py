"""A derivation as MathML, which browsers show without help from the network."""

from __future__ import annotations

import re
from html import escape
from typing import Any

from latex2mathml.converter import convert

from theory.derivation import Derivation, Step
from theory.latex import to_latex
from theory.symbols import latex_name


def derivation_html(d: Derivation) -> str:
    """Return the steps of a derivation as HTML."""
    return "\n".join(_step(step) for step in d.steps)


def _step(step: Step) -> str:
    reference = f' <span class="note">{escape(step.reference)}</span>' if step.reference else ""
    rows = "".join(
        f'<tr><td class="label">{escape(label)}</td><td>{equation(left, right)}</td></tr>'
        for label, left, right in step.equations
    )
    checks = "".join(
        f'<p class="note">{"✓ verified" if held else "✗ not verified"}: {escape(claim)}</p>'
        for claim, held in (step.checks or {}).items()
    )
    justification = f"<p>{text_with_maths(step.justification)}</p>"
    return (
        f'<h3>{escape(step.title)}{reference}</h3>{justification}<div class="wide"><table>{rows}</table></div>{checks}'
    )


def equation(left: Any, right: Any) -> str:
    """Return left = right as MathML; the sides are LaTeX text or SymPy expressions."""
    lhs, rhs = _latex(left), _latex(right)
    if lhs.endswith(r",\ \cdot"):  # the chain writes "σ² = max(0, ·), · = …"
        lhs = lhs.removesuffix(r",\ \cdot")
        return mathml(lhs.replace(r"\cdot", rhs))
    return mathml(f"{lhs} = {rhs}")


def mathml(latex: str) -> str:
    """Return LaTeX as MathML, or as code where it cannot be converted."""
    try:
        converted = str(convert(latex)).replace("<math ", '<math displaystyle="true" ', 1)  # fractions at full size
    except Exception:  # the converter raises whatever its parser runs into
        return f"<code>{escape(latex)}</code>"
    # Browsers stretch a norm's bars to the line, each to another height, unless told not to.
    return re.sub(r"<mo>(&#x0?(?:2016|2225);|[‖∥])</mo>", r'<mo stretchy="false">\1</mo>', converted)


def text_with_maths(text: str) -> str:
    """Return prose that holds single LaTeX symbols as HTML."""
    words = {r"\lambda/\lambda^*": "λ/λ*", r"\lambda^*": "λ*", r"\lambda": "λ", "<=": "≤", ">=": "≥"}
    for latex, unicode in words.items():
        text = text.replace(latex, unicode)
    return escape(text)


def _latex(side: Any) -> str:
    if not isinstance(side, str):
        return to_latex(side)
    return latex_name(side) if side.isidentifier() else side
