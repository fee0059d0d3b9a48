r"""A derivation as GitHub-flavoured Markdown: formulas between dollars, tables, ordinary lists."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from theory.document import Block, Cell, Equation, Heading, Items, Maths, Paragraph, Table, to_document
from theory.prose import markdown_text

if TYPE_CHECKING:
    from theory.derivation import Derivation


def markdown(d: Derivation) -> str:
    """The derivation as a Markdown document.

    Args:
        d: the derivation.

    Returns:
        Unicode text, in the order of the chain.
    """
    content = to_document(d)
    return "\n\n".join([f"# {markdown_text(content.title)}", *map(_block, content.blocks)]) + "\n"


def _block(block: Block) -> str:
    match block:
        case Heading(title, reference):
            return f"## {markdown_text(title)}" + (f"\n\n*{markdown_text(reference)}*" if reference else "")
        case Paragraph(prose):
            return markdown_text(prose)
        case Equation(label, lines):
            return (f"{markdown_text(label)}:\n\n" if label else "") + f"$$\n{_formula(_aligned(lines))}\n$$"
        case Items(entries, lead, ordered):
            mark = "1." if ordered else "-"
            items = "\n".join(f"{mark} {markdown_text(entry)}" for entry in entries)
            return f"{markdown_text(lead)}\n\n{items}" if lead else items
        case Table(header, rows):
            return "\n".join(map(_row, (header, ("---",) * len(header), *rows)))


def _row(cells: tuple[Cell, ...]) -> str:
    return f"| {' | '.join(map(_cell, cells))} |"


def _cell(cell: Cell) -> str:
    return f"${_formula(cell.latex)}$" if isinstance(cell, Maths) else markdown_text(cell)


def _aligned(lines: tuple[str, ...]) -> str:
    if len(lines) == 1:
        return lines[0].replace("&", "")
    return "\\begin{aligned}\n" + " \\\\\n".join(lines) + "\n\\end{aligned}"


def _formula(latex: str) -> str:
    r"""Return what GitHub accepts: ``\operatorname`` is not allowed there, and ``|`` would end a table's cell."""
    return re.sub(r"\\operatorname\{(\w+)\}", r"\\mathrm{\1}\\,", latex).replace("|", r"\vert ")
