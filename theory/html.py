r"""A derivation as one HTML page without any reference to the network: formulas are MathML, which browsers show themselves.

latex2mathml, which is pure Python, is the one library beside SymPy that the symbolic layer imports, and it does so here
only: `Derivation.to_html` is promised on the derivation itself.
"""

from __future__ import annotations

import re
from html import escape
from typing import TYPE_CHECKING

from latex2mathml.converter import convert

from theory.document import Block, Cell, Equation, Heading, Items, Maths, Paragraph, Table, to_document
from theory.prose import unicode_text

if TYPE_CHECKING:
    from collections.abc import Iterable

    from theory.derivation import Derivation

STYLE = """
body { margin: 0; background: #fff; color: #1a1a1a;
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
main { max-width: 54rem; margin: 0 auto; padding: 2rem 1.5rem 4rem; }
main.broad { max-width: 96rem; }
h1 { font-size: 1.7rem; line-height: 1.25; margin: 0 0 .25rem; }
h2 { font-size: 1.2rem; margin: 2.2rem 0 .5rem; padding-top: .9rem; border-top: 1px solid #ddd; }
p, li { max-width: 46rem; } p { margin: .4rem 0; }
.note { color: #555; font-size: .9rem; font-weight: normal; }
.wide { overflow-x: auto; margin: .5rem 0; }
.equation { padding: .3rem 0 .3rem 2rem; } .equation .more { padding-left: 2.5rem; }
.label { color: #555; font-size: .9rem; margin: .8rem 0 0; }
table { border-collapse: collapse; font-size: .92rem; }
th, td { text-align: left; padding: .25rem 1.1rem .25rem 0; border-bottom: 1px solid #eee; vertical-align: top; }
th { border-bottom: 1px solid #999; font-weight: 600; }
math { font-size: 1.08em; white-space: nowrap; }
@media print { main { max-width: none; } h2 { break-after: avoid; } .equation { break-inside: avoid; } }
"""
# MathML Core has no alphabets but the normal one: a letter of another alphabet is a character of its own.
_ALPHABETS = {"double-struck": "𝔸𝔹ℂ𝔻𝔼𝔽𝔾ℍ𝕀𝕁𝕂𝕃𝕄ℕ𝕆ℙℚℝ𝕊𝕋𝕌𝕍𝕎𝕏𝕐ℤ", "script": "𝒜ℬ𝒞𝒟ℰℱ𝒢ℋℐ𝒥𝒦ℒℳ𝒩𝒪𝒫𝒬ℛ𝒮𝒯𝒰𝒱𝒲𝒳𝒴𝒵"}


def html(d: Derivation) -> str:
    """The derivation as a complete HTML page.

    Args:
        d: the derivation.

    Returns:
        The page, self-contained.
    """
    content = to_document(d)
    return page(content.title, [f"<h1>{escape(content.title)}</h1>", *map(block_html, content.blocks)])


def page(title: str, parts: Iterable[str], *, wide: bool = False) -> str:
    """Return a complete page in the style of the documents, or as wide as the window for a large table."""
    body, main = "\n".join(parts), '<main class="broad">' if wide else "<main>"
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<title>{escape(title)}</title>\n'
        f"<style>{STYLE}</style>\n</head>\n<body>\n{main}\n{body}\n</main>\n</body>\n</html>\n"
    )


def block_html(block: Block) -> str:
    """Return one block."""
    match block:
        case Heading(title, reference):
            where = f' <span class="note">{prose(reference)}</span>' if reference else ""
            return f"<h2>{prose(title)}{where}</h2>"
        case Paragraph(words):
            return f"<p>{prose(words)}</p>"
        case Equation(label, lines):
            return (f'<p class="label">{prose(label)}</p>' if label else "") + _equation(lines)
        case Items(entries, lead, ordered):
            tag = "ol" if ordered else "ul"
            items = "".join(f"<li>{prose(entry)}</li>" for entry in entries)
            return (f"<p>{prose(lead)}</p>" if lead else "") + f"<{tag}>{items}</{tag}>"
        case Table(header, rows):
            return table_html(header, rows)


def prose(words: str) -> str:
    """Return prose, escaped."""
    return escape(unicode_text(words))


def table_html(header: Iterable[Cell], rows: Iterable[Iterable[Cell]]) -> str:
    """Return a table, which scrolls by itself where it is wider than the page."""
    head = "".join(f"<th>{_cell(cell)}</th>" for cell in header)
    body = "".join(f"<tr>{''.join(f'<td>{_cell(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def mathml(latex: str) -> str:
    """Return LaTeX as MathML, with fractions at full size."""
    converted = str(convert(latex)).replace("<math ", '<math displaystyle="true" ', 1)
    converted = re.sub(r'<mi mathvariant="(double-struck|script)">([A-Z])</mi>', _letter, converted)
    # Browsers stretch a norm's bars to the line, each to another height, unless told not to.
    return re.sub(r"<mo>(&#x0?(?:2016|2225);|[‖∥])</mo>", r'<mo stretchy="false">\1</mo>', converted)


def _letter(match: re.Match[str]) -> str:
    return f"<mi>{_ALPHABETS[match[1]][ord(match[2]) - ord('A')]}</mi>"


def _cell(cell: Cell) -> str:
    return mathml(cell.latex) if isinstance(cell, Maths) else prose(cell)


def _equation(lines: tuple[str, ...]) -> str:
    """Return the lines of an equation below one another; those that go on with the one above are indented."""
    shown = [
        f'<div class="more">{mathml(line.removeprefix(more))}</div>'
        if line.startswith(more := r"&\quad")
        else f"<div>{mathml(line.replace('&', ''))}</div>"
        for line in lines
    ]
    return f'<div class="wide equation">{"".join(shown)}</div>'
