r"""LaTeX of expressions and of the whole derivation.

A vector is printed by its generic coordinate, g_i; inside a sum over coordinates the running index is j. Documents need
amsmath and amssymb only, are plain ASCII, and break sums that are wider than the page.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import sympy as sp
from sympy.printing.latex import LatexPrinter

from theory.symbols import (
    CATALOGUE,
    BlockTotal,
    Quantity,
    Reduction,
    Shape,
    Total,
    latex_name,
    quantity,
    shape_of,
    wdot,
)

if TYPE_CHECKING:
    from theory.derivation import Derivation, Step

_NO_WIDTH = {r"\left", r"\right", r"\operatorname", r"\mathrm", r"\,", r"\;", r"\dot", r"\mathbb", r"\mathcal"}
LINE_WIDTH = 62.0  # characters that fit on a line of the document's 6.5 in
# The diagonal of a matrix: its sum over coordinates is the trace.
_DIAGONAL = {"HSH": r"(H\Sigma H)", "Sigma": r"{\Sigma}"}
_SUFFIXES = ("_next", "_dot")


class _Printer(LatexPrinter):
    """SymPy's printer, with the catalogue's names, shapes as indices, sums over coordinates as norms and products."""

    def __init__(self, index: str = "i") -> None:
        super().__init__({"parenthesize_super": True})
        self.index = index

    def _block(self) -> str:
        return "b" if self.index == "i" else f"b({self.index})"

    def _print_ScalarQuantity(self, s: Quantity) -> str:
        return latex_name(s.name)

    def _print_BlockQuantity(self, s: Quantity) -> str:
        return _indexed(latex_name(s.name), self._block())

    def _print_ParameterQuantity(self, s: Quantity) -> str:
        return _indexed(latex_name(s.name), 2 * self.index if s.name in _DIAGONAL else self.index)

    def _print_Total(self, r: Total, exp: str | None = None) -> str:
        return _powered(self._reduced(r.args[0], "", ""), exp)

    def _print_BlockTotal(self, r: BlockTotal, exp: str | None = None) -> str:
        return _powered(self._reduced(r.args[0], self._block(), rf"\in {self._block()}"), exp)

    def _reduced(self, arg: sp.Expr, block: str, domain: str) -> str:
        """Return ∑ arg over all coordinates, or over those of a block, in the shortest notation there is."""

        def vector(s: Quantity) -> str:
            return _indexed(latex_name(s.name), block) if block else latex_name(s.name)

        factors = list(arg.args)
        if arg == 1:
            return _indexed("n", block) if block else "n"
        if arg.is_Pow and _is_vector(arg.base) and arg.exp == 2:
            return rf"\lVert {vector(arg.base)}\rVert^{{2}}"
        if arg.is_Mul and len(factors) == 2 and all(map(_is_vector, factors)):
            return rf"\langle {vector(factors[0])},{vector(factors[1])}\rangle"
        if _is_vector(arg) and arg.name in _DIAGONAL and not block:
            return rf"\operatorname{{tr}}{_DIAGONAL[arg.name]}"
        index = chr(ord(self.index) + 1)
        return rf"\sum_{{{index}{domain}}}\left({_Printer(index).doprint(arg)}\right)"

    def _print_Add(self, expr: sp.Add, order: str | None = None) -> str:
        """Return what SymPy prints, but positive terms first: 1 − β₂, not −β₂ + 1."""
        printed = [self._print(term) for term in self._as_ordered_terms(expr, order=order)]
        terms = sorted(printed, key=lambda term: term.startswith("-"))
        return "".join([terms[0], *(f" - {t[1:].strip()}" if t.startswith("-") else f" + {t}" for t in terms[1:])])


def _is_vector(expr: sp.Expr) -> bool:
    return isinstance(expr, Quantity) and expr.shape is Shape.PARAMETER


def _indexed(name: str, index: str) -> str:
    stem, plus = (name[:-4], "^{+}") if name.endswith("^{+}") else (name, "")
    base = f"{{{stem}}}" if any(c in stem for c in "_^'") else stem
    return f"{base}_{{{index}}}{plus}"


def _powered(printed: str, exp: str | None) -> str:
    if exp is None:
        return printed
    atomic = printed.startswith(r"\langle") or printed == "n"
    return f"{printed}^{{{exp}}}" if atomic else rf"\left({printed}\right)^{{{exp}}}"


def to_latex(expr: sp.Expr) -> str:
    """Return the LaTeX of an expression, in the names of the catalogue."""
    return str(_Printer().doprint(_signs_inside(sp.sympify(expr))))


def _signs_inside(expr: sp.Expr) -> sp.Expr:
    """Return the expression with −(β₂ − 1)x written (1 − β₂)x, everywhere."""
    if isinstance(expr, Reduction) or not expr.args:
        return expr
    expr = expr.func(*[_signs_inside(a) for a in expr.args])
    if expr.is_Mul and expr.args[0].is_Rational and expr.args[0] < 0:
        for factor in expr.args[1:]:
            if factor.is_Add and any(term.could_extract_minus_sign() for term in factor.args):
                rest = [f for f in expr.args[1:] if f != factor]
                return sp.Mul(-expr.args[0], sp.Add(*[-term for term in factor.args]), *rest)
    return expr


# --- lines that fit the page -----------------------------------------------------------------------------


def width(latex: str) -> float:
    r"""Return a rough printed width in characters: fractions by the wider half, scripts smaller, commands one wide."""
    return _measure(re.findall(r"\\[A-Za-z]+|\\.|[^\s]", latex))


def _measure(tokens: list[str]) -> float:
    result, scale = 0.0, 1.0
    while tokens:
        token = tokens.pop(0)
        if token in {"^", "_"}:
            scale = 0.7
            continue
        if token in {r"\frac", r"\tfrac"}:
            size = max(_measure(_group(tokens)), _measure(_group(tokens)))
        elif token == "{":
            tokens.insert(0, token)
            size = _measure(_group(tokens))
        elif token in _NO_WIDTH:
            size = 0.0
        else:
            size = 2.2 if token in {"+", "-", "="} else 3.0 if token in {r"\log", r"\sum"} else 1.0
        result += scale * size
        scale = 1.0
    return result


def _group(tokens: list[str]) -> list[str]:
    """Return one braced group, or one token, taken off the front."""
    first = tokens.pop(0)
    if first != "{":
        return [first]
    depth, taken = 1, []
    while depth:
        token = tokens.pop(0)
        depth += (token == "{") - (token == "}")
        taken.append(token)
    return taken[:-1]


def display(left: str, right: sp.Expr | str) -> str:
    """Return a displayed equation; wide sums break between terms, what cannot break is named and defined below."""
    names: dict[sp.Expr, Quantity] = {}
    lines = _equation(left, right, names)
    defined = 0
    while defined < len(names):
        expr, name = list(names.items())[defined]
        lines += _equation(to_latex(name), expr, names)
        defined += 1
    if len(lines) == 1:
        return "\\[\n" + lines[0].replace("&", "") + "\n\\]"
    return "\\begin{align*}\n" + " \\\\\n".join(lines) + "\n\\end{align*}"


def _equation(left: str, right: sp.Expr | str, names: dict[sp.Expr, Quantity]) -> list[str]:
    if isinstance(right, str) or width(left) + width(to_latex(right)) <= LINE_WIDTH:
        return [f"{left} &= {right if isinstance(right, str) else to_latex(right)}"]
    numerator, denominator = sp.fraction(_signs_inside(right))
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
        widest = max(sums, key=lambda a: (width(to_latex(a)), str(a)))
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


# --- text ------------------------------------------------------------------------------------------------

_MATH = {
    "α": r"\alpha",
    "β": r"\beta",
    "γ": r"\gamma",
    "δ": r"\delta",
    "ε": r"\epsilon",
    "η": r"\eta",
    "λ": r"\lambda",
    "μ": r"\mu",
    "ν": r"\nu",
    "ρ": r"\rho",
    "σ": r"\sigma",
    "τ": r"\tau",
    "φ": r"\phi",
    "χ": r"\chi",
    "ψ": r"\psi",
    "ω": r"\omega",
    "Σ": r"\Sigma",
    "Φ": r"\Phi",
    "Ψ": r"\Psi",
    "Δ": r"\Delta",
    "Λ": r"\Lambda",
    "∇": r"\nabla",
    "∂": r"\partial",
    "∑": r"\sum",
    "∫": r"\int",
    "√": r"\surd",
    "∞": r"\infty",
    "½": r"\tfrac12",
    "·": r"\cdot",
    "×": r"\times",
    "±": r"\pm",
    "−": "-",
    "∘": r"\circ",
    "→": r"\to",
    "←": r"\leftarrow",
    "⇔": r"\Leftrightarrow",
    "≤": r"\le",
    "≥": r"\ge",
    "≠": r"\ne",
    "≈": r"\approx",
    "≪": r"\ll",
    "≫": r"\gg",
    "∈": r"\in",
    "∝": r"\propto",
    "⪯": r"\preceq",
    "⪰": r"\succeq",
    "≺": r"\prec",
    "≻": r"\succ",
    "⟂": r"\perp",
    "⊥": r"\perp",
    "⟨": r"\langle",
    "⟩": r"\rangle",
    "‖": r"\Vert",
    "𝒜": r"\mathcal A",
    "ℬ": r"\mathcal B",
    "ℓ": r"\ell",
    "ᵀ": r"^{\top}",
    "⁻": "^{-}",
    "⁺": "^{+}",
    "ᵗ": "^{t}",
    "ᵢ": "_{i}",
    "ⱼ": "_{j}",
    "ₜ": "_{t}",
    "₊": "_{+}",
    "₋": "_{-}",
    "′": "'",
    "★": r"\star",
    "<": "<",
    ">": ">",
    "|": "|",
    **{c: f"^{{{k}}}" for k, c in enumerate("⁰¹²³⁴⁵⁶⁷⁸⁹")},
    **{c: f"_{{{k}}}" for k, c in enumerate("₀₁₂₃₄₅₆₇₈₉")},
}
_TEXT = {
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "\\": r"\textbackslash{}",
    "–": "--",
    "—": "---",
    "…": r"\dots{}",
    "’": "'",
    "‘": "`",
    "“": "``",
    "”": "''",
    "§": r"\S{}",
    "ß": r"\ss{}",
    "ø": r"\o{}",
    "Ø": r"\O{}",
    "ł": r"\l{}",
    "\u00a0": "~",
    "`": r"\textasciigrave{}",
}
_ACCENTS = {  # combining characters
    "\u0300": "`",
    "\u0301": "'",
    "\u0302": "^",
    "\u0303": "~",
    "\u0308": '"',
    "\u030c": "v ",
    "\u0327": "c ",
}
_COMMANDS = {m for m in _MATH.values() if re.fullmatch(r"\\[A-Za-z]+", m)}


def text(plain: str) -> str:
    r"""Return prose as LaTeX: specials escaped; mathematical characters, ``<=`` and ``\lambda`` set as mathematics."""
    pattern = re.compile(
        r"(?P<star>(?:λ|\\lambda)\^?\*)|(?P<norm>‖²_P)|(?P<rel><=|>=)|"
        r"(?P<cmd>\\[A-Za-z]+)|(?P<char>.)",
        re.DOTALL,
    )
    return "".join(_piece(m) for m in pattern.finditer(unicodedata.normalize("NFC", plain)))


def _piece(match: re.Match[str]) -> str:
    found = match.group()
    if match["star"]:
        return r"\ensuremath{\lambda^{*}}"
    if match["norm"]:
        return r"\ensuremath{\Vert_P^2}"
    if match["rel"]:
        return r"\ensuremath{\le}" if found == "<=" else r"\ensuremath{\ge}"
    if match["cmd"]:
        return rf"\ensuremath{{{found}}}" if found in _COMMANDS else _TEXT["\\"] + text(found[1:])
    return _character(found)


def _character(c: str) -> str:
    if c in _MATH:
        return rf"\ensuremath{{{_MATH[c]}}}"
    if c in _TEXT or c.isascii():
        return _TEXT.get(c, c)
    base, *marks = list(unicodedata.normalize("NFD", c))
    if marks == ["\u0307"]:
        return rf"\ensuremath{{\dot {_MATH.get(base, base)}}}"
    if base.isascii() and len(marks) == 1 and marks[0] in _ACCENTS:
        return rf"\{_ACCENTS[marks[0]]}{{{base}}}"
    return rf"\texttt{{U+{ord(c):04X}}}"


# --- the document ----------------------------------------------------------------------------------------

_PREAMBLE = r"""\documentclass{article}
\usepackage{amsmath}
\usepackage{amssymb}
\setlength{\textwidth}{6.5in}
\setlength{\oddsidemargin}{0in}
\setlength{\topmargin}{-0.4in}
\setlength{\textheight}{9in}
\allowdisplaybreaks
"""
_BEGIN, _END = "\\date{}\n\\begin{document}\n\\maketitle", "\\end{document}"
_NOTATION = (
    r"Vectors are written by their generic coordinate $i$; $j$ runs over all coordinates, "
    r"and $b$ is the parameter tensor that contains the coordinate. "
    r"A superscript ${}^{+}$ marks the value after the step, a dot the derivative in time; a unit of time is one step."
)


def document(d: Derivation) -> str:
    """The derivation as a complete LaTeX document.

    Args:
        d: the derivation.

    Returns:
        ASCII source, in the order of the chain, with all assumptions and references at the end.
    """
    chosen = ", ".join(f"{n} = {e}" for n, e in d.update.schedules.items())
    parts = [
        _PREAMBLE + rf"\title{{Central flow of \texttt{{{text(d.rule.name)}}}}}",
        _BEGIN,
        text(d.rule.doc),
        *([text(f"Schedules: {chosen}.")] if chosen else []),
        _NOTATION,
        r"\section*{Symbols}" + "\n" + _symbol_table(d),
        *(_section(d, k, step) for k, step in enumerate(d.steps, start=1)),
        "\\section*{Threshold}\n" + display(r"\lambda^{*}", d.threshold),
        "\\section*{Assumptions}\n" + _list("enumerate", map(text, d.assumptions)),
        *(["\\section*{References}\n" + _list("itemize", map(text, d.rule.references))] if d.rule.references else []),
        _END,
    ]
    return "\n\n".join(p for p in parts if p) + "\n"


def _section(d: Derivation, number: int, step: Step) -> str:
    reference = f"\n\\textit{{{text(step.reference)}.}}" if step.reference else ""
    parts = [rf"\section*{{{number}\quad {text(step.title)}}}" + reference, text(step.justification)]
    for _, left, right in step.equations:
        parts.append(display(_side(d, left), right if isinstance(right, str) else sp.sympify(right)))
    if step.assumptions:
        parts.append("Assumed:\n" + _list("itemize", map(text, step.assumptions)))
    if step.checks:
        outcomes = {True: ".", False: r": \textbf{not confirmed}."}
        claims = [text(claim) + outcomes[bool(ok)] for claim, ok in step.checks.items()]
        parts.append("Checked symbolically:\n" + _list("itemize", claims))
    return "\n\n".join(parts)


def _side(d: Derivation, side: Any) -> str:
    """Return a left side: a code name such as ``nu_next``, an expression, or LaTeX as it stands."""
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
    return str(side.replace(r"\cdot", "R"))


def _symbol_table(d: Derivation) -> str:
    rights = [sp.sympify(r) for step in d.steps for _, _, r in step.equations if not isinstance(r, str)]
    used: dict[str, Quantity] = {}
    for s in sorted(set().union(*(r.free_symbols for r in rights)), key=str):
        if isinstance(s, Quantity):
            base = re.sub(r"(_next|_dot)$", "", s.name)
            used[base] = quantity(base, s.shape)
    rows = [rf"${to_latex(s)}$ & {text(_meaning(d, name))} \\" for name, s in used.items()]
    return "\\begin{tabular}{ll}\n" + "\n".join(rows) + "\n\\end{tabular}"


def _meaning(d: Derivation, name: str) -> str:
    domain = f", in {d.rule.hyper[name].domain}" if name in d.rule.hyper else ""
    kind = "hyperparameter" if name in d.rule.hyper else "state"
    return (CATALOGUE[name].meaning if name in CATALOGUE else kind) + domain


def _list(environment: str, items: Iterable[str]) -> str:
    return f"\\begin{{{environment}}}\n" + "\n".join(rf"\item {item}" for item in items) + f"\n\\end{{{environment}}}"
