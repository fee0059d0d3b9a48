"""A page that puts all rules side by side: what is derived for each, or why it is refused."""

from __future__ import annotations

from collections.abc import Mapping

import sympy as sp

from theory import Derivation, RuleRefused, UpdateRule, derive
from theory.display import width
from theory.document import Cell, Maths, left_side
from theory.fixed_point import fixed_point
from theory.html import page, prose, table_html
from theory.printer import to_latex
from theory.thresholds import positive_denominator

HEADER = (
    "rule",
    "preconditioner P",
    Maths("F(z)"),
    Maths(r"\lambda^{*}"),
    "accumulators",
    "filter states",
    "where P settles",
)
TITLE = "Update rules"
WIDEST = 45.0  # of a formula in a cell, as `width` measures
INTRODUCTION = (
    "Normal form: w ← w − P⁻¹(Fg) − γw, with P a function of the accumulators and F(1) = 1. The optimizer is stable where "
    "all eigenvalues of P⁻¹H are at most λ*. Thresholds and filters that depend on time are given after a long time."
)


def rules_html(rules: Mapping[str, UpdateRule]) -> str:
    """Return the page.

    Args:
        rules: by name; those that the theory refuses are listed with the reason.
    """
    rows: list[tuple[Cell, ...]] = []
    reasons: list[tuple[Cell, ...]] = []
    for name, rule in rules.items():
        try:
            rows.append((name, *_facts(derive(rule))))
        except RuleRefused as refusal:
            reasons.append((name, _first_line(rule), str(refusal)))
    about = [(name, _first_line(rule)) for name, rule in rules.items() if name not in {r[0] for r in reasons}]
    parts = [f"<h1>{TITLE}</h1>", f"<p>{prose(INTRODUCTION)}</p>", table_html(HEADER, rows)]
    if reasons:
        parts += ["<h2>Refused</h2>", table_html(("rule", "what it is", "why"), reasons)]
    parts += ["<h2>What they are</h2>", table_html(("rule", "what it is"), about)]
    return page(TITLE, parts, wide=True)


def _facts(d: Derivation) -> tuple[Cell, ...]:
    P = Maths(f"{left_side(d, 'P')} = {to_latex(positive_denominator(d.preconditioner))}")
    accumulators = [a for a in d.normal_form.accumulators if a not in d.normal_form.clocks]
    return (
        P if width(P.latex) <= WIDEST else "see its derivation",
        _formula(d.limit(d.filter)),
        _formula(d.limit(d.threshold)),
        Maths(r",\ ".join(map(to_latex, accumulators))) if accumulators else "none",
        Maths(r",\ ".join(map(to_latex, d.normal_form.filters))) if d.normal_form.filters else "none",
        _settles(d),
    )


def _formula(expr: sp.Expr) -> Cell:
    latex = to_latex(positive_denominator(sp.factor(expr)))
    return Maths(latex) if width(latex) <= WIDEST else "see its derivation"


def _settles(d: Derivation) -> Cell:
    """Return the fixed point of the preconditioner in a word or a formula."""
    found = fixed_point(d.normal_form, d.averages, d.flow, d.stability)
    if found.solution is not None and width(to_latex(found.solution)) <= WIDEST:
        return Maths(r"\bar P=" + to_latex(found.solution))
    return found.reason


def _first_line(rule: UpdateRule) -> str:
    return rule.doc.splitlines()[0] if rule.doc else ""
