r"""Prose with mathematical characters in it, as LaTeX, Markdown and plain Unicode."""

from __future__ import annotations

import re
import unicodedata

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
    "ϱ": r"\varrho",
    "π": r"\pi",
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
_COMMANDS = {m: c for c, m in reversed(_MATH.items()) if re.fullmatch(r"\\[A-Za-z]+", m)}
_UNICODE = (("<=", "≤"), (">=", "≥"), ("λ^*", "λ*"))


def unicode_text(plain: str) -> str:
    r"""Return prose with ``<=`` and single commands such as ``\lambda`` as the characters they stand for."""
    shown = re.sub(r"\\[A-Za-z]+", lambda m: _COMMANDS.get(m.group(), m.group()), plain)
    for written, character in _UNICODE:
        shown = shown.replace(written, character)
    return shown


def markdown_text(plain: str) -> str:
    """Return prose as Markdown: what would start an emphasis, a formula, a tag or a table cell is escaped."""
    return re.sub(r"([\\`*_{}\[\]<>$|#])", r"\\\1", unicode_text(plain))


def latex_text(plain: str) -> str:
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
        return rf"\ensuremath{{{found}}}" if found in _COMMANDS else _TEXT["\\"] + latex_text(found[1:])
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
