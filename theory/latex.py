r"""A derivation as a complete LaTeX document.

Documents need amsmath and amssymb only, are plain ASCII, and break sums that are wider than the page.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from theory.document import Block, Cell, Equation, Heading, Items, Maths, Paragraph, Table, to_document
from theory.printer import to_latex
from theory.prose import latex_text

if TYPE_CHECKING:
    from theory.derivation import Derivation

__all__ = ["display", "document", "to_latex"]

_PREAMBLE = r"""\documentclass{article}
\usepackage{amsmath}
\usepackage{amssymb}
\setlength{\textwidth}{6.5in}
\setlength{\oddsidemargin}{0in}
\setlength{\topmargin}{-0.4in}
\setlength{\textheight}{9in}
\setlength{\parindent}{0pt}
\setlength{\parskip}{4pt plus 2pt}
\allowdisplaybreaks
"""
_BEGIN, _END = "\\date{}\n\\begin{document}\n\\maketitle", "\\end{document}"
# Inches of a table, and those left for a column of formulas, which do not break lines as prose does.
_TABLE, _FORMULAS = 6.1, 1.3


def document(d: Derivation) -> str:
    """The derivation as a complete LaTeX document.

    Args:
        d: the derivation.

    Returns:
        ASCII source, in the order of the chain, with all assumptions and references at the end.
    """
    content = to_document(d)
    title = rf"\title{{Central flow of \texttt{{{latex_text(content.rule)}}}}}"
    parts = [_PREAMBLE + title, _BEGIN, *map(_block, content.blocks), _END]
    return "\n\n".join(parts) + "\n"


def display(lines: tuple[str, ...]) -> str:
    """Return a displayed equation of one line or several."""
    if len(lines) == 1:
        return "\\[\n" + lines[0].replace("&", "") + "\n\\]"
    return "\\begin{align*}\n" + " \\\\\n".join(lines) + "\n\\end{align*}"


def _block(block: Block) -> str:
    match block:
        case Heading(title, reference):
            where = f"\n\\textit{{{latex_text(reference)}.}}" if reference else ""
            return rf"\section*{{{latex_text(title)}}}" + where
        case Paragraph(prose):
            return latex_text(prose)
        case Equation(label, lines):
            return (rf"\textit{{{latex_text(label)}:}}" + "\n" if label else "") + display(lines)
        case Items(entries, lead, ordered):
            return (latex_text(lead) + "\n" if lead else "") + _list("enumerate" if ordered else "itemize", entries)
        case Table(header, rows):
            return _table(header, rows)


def _list(environment: str, entries: tuple[str, ...]) -> str:
    items = "\n".join(rf"\item {latex_text(entry)}" for entry in entries)
    return f"\\begin{{{environment}}}\n{items}\n\\end{{{environment}}}"


def _table(header: tuple[str, ...], rows: tuple[tuple[Cell, ...], ...]) -> str:
    formulas = [any(isinstance(row[k], Maths) for row in rows) for k in range(len(header))]
    prose = (_TABLE - _FORMULAS * sum(formulas)) / max(1, formulas.count(False))
    columns = "".join("l" if formula else f"p{{{prose:.2f}in}}" for formula in formulas)
    lines = [" & ".join(map(_cell, row)) + r" \\" for row in (header, *rows)]
    return f"\\begin{{tabular}}{{{columns}}}\n{lines[0]}\n\\hline\n" + "\n".join(lines[1:]) + "\n\\end{tabular}"


def _cell(cell: Cell) -> str:
    return f"${cell.latex}$" if isinstance(cell, Maths) else latex_text(cell)
