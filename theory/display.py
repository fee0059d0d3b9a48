r"""Displayed equations that fit the page: wide sums break between terms, what cannot break is named and defined below."""

from __future__ import annotations

import re
from functools import lru_cache

import sympy as sp

from theory.printer import signs_inside, to_latex
from theory.symbols import Quantity, quantity, shape_of

_NO_WIDTH = {r"\left", r"\right", r"\operatorname", r"\mathrm", r"\,", r"\;", r"\dot", r"\mathbb", r"\mathcal"}
LINE_WIDTH = 62.0  # characters that fit on a line of 6.5 in


@lru_cache(maxsize=16384)
def width(latex: str) -> float:
    r"""Return a rough printed width in characters: fractions by the wider half, scripts smaller, commands one wide."""
    return _measure(re.findall(r"\\[A-Za-z]+|\\.|[^\s]", latex)[::-1])


def _measure(tokens: list[str]) -> float:
    """Return the width of tokens that are given last first, and used up."""
    result, scale = 0.0, 1.0
    while tokens:
        token = tokens.pop()
        if token in {"^", "_"}:
            scale = 0.7
            continue
        if token in {r"\frac", r"\tfrac"}:
            size = max(_measure(_group(tokens)), _measure(_group(tokens)))
        elif token == "{":
            tokens.append(token)
            size = _measure(_group(tokens))
        elif token in _NO_WIDTH:
            size = 0.0
        else:
            size = 2.2 if token in {"+", "-", "="} else 3.0 if token in {r"\log", r"\sum"} else 1.0
        result += scale * size
        scale = 1.0
    return result


def _group(tokens: list[str]) -> list[str]:
    """Return one braced group, or one token, taken off the end, in the same order."""
    first = tokens.pop()
    if first != "{":
        return [first]
    depth, taken = 1, []
    while depth:
        token = tokens.pop()
        depth += (token == "{") - (token == "}")
        taken.append(token)
    return taken[-2::-1]


def equation_lines(left: str, right: sp.Expr | str) -> tuple[str, ...]:
    """Lay an equation out in lines.

    Args:
        left: LaTeX.
        right: an expression, or LaTeX that is taken as it stands.

    Returns:
        LaTeX lines with ``&`` where they align; lines after the first continue it or define a name used above.
    """
    names: dict[sp.Expr, Quantity] = {}
    lines = _equation(left, right, names)
    defined = 0
    while defined < len(names):
        expr, name = list(names.items())[defined]
        lines += _equation(to_latex(name), expr, names)
        defined += 1
    return tuple(lines)


def _equation(left: str, right: sp.Expr | str, names: dict[sp.Expr, Quantity]) -> list[str]:
    if isinstance(right, str) or width(left) + width(to_latex(right)) <= LINE_WIDTH:
        return [f"{left} &= {right if isinstance(right, str) else to_latex(right)}"]
    numerator, denominator = sp.fraction(signs_inside(right))
    if not right.is_Add and denominator != 1 and left not in {"N", "D"}:
        halves = [*_equation("N", numerator, names), *_equation("D", denominator, names)]
        return [rf"{left} &= \frac{{N}}{{D}}", *halves]
    room = LINE_WIDTH - width(left) - 4
    parts = right.args if right.is_Add or right.is_Mul else (right,)
    named = [_named(part, room, names) for part in parts]
    first, *rest = _pieces(right.func(*named) if len(parts) > 1 else named[0], room)
    return [f"{left} &= {first}", *(rf"&\quad {piece}" for piece in rest)]


def _named(part: sp.Expr, room: float, names: dict[sp.Expr, Quantity]) -> sp.Expr:
    """Return a term with its widest sums replaced by names until it fits."""
    while width(to_latex(part)) > room:
        sums = part.atoms(sp.Add)
        if not sums:
            break
        greatest = max(width(to_latex(a)) for a in sums)
        widest = max((a for a in sums if width(to_latex(a)) == greatest), key=str)
        name = names.setdefault(widest, quantity(f"c{len(names) + 1}", shape_of(widest)))
        part = part.xreplace({widest: name})
    return part


def _pieces(expr: sp.Expr, room: float) -> list[str]:
    """Return the terms of a sum, or the factors of a product, packed into lines."""
    if expr.is_Add:
        terms = sorted((to_latex(t) for t in expr.as_ordered_terms()), key=lambda t: t.startswith("-"))
        parts = [terms[0], *(t if t.startswith("-") else f"+ {t}" for t in terms[1:])]
    elif expr.is_Mul:
        factors = [rf"\left({to_latex(f)}\right)" if f.is_Add else to_latex(f) for f in expr.as_ordered_factors()]
        parts = [factors[0], *(rf"\cdot {f}" for f in factors[1:])]
    else:
        return [to_latex(expr)]
    lines = [""]
    for part in parts:
        if lines[-1] and width(lines[-1]) + width(part) > room:
            lines.append("")
        lines[-1] = f"{lines[-1]} {part}".strip()
    return lines
