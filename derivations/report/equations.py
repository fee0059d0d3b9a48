"""A derivation's equations within a report: the blocks of its document, as MathML."""

from __future__ import annotations

from html import escape

from theory.derivation import Derivation
from theory.document import step_blocks
from theory.html import block_html


def derivation_html(d: Derivation) -> str:
    """Return the steps of a derivation as HTML."""
    parts = []
    for step in d.steps:
        reference = f' <span class="note">{escape(step.reference)}</span>' if step.reference else ""
        parts.append(f"<h3>{escape(step.title)}{reference}</h3>")
        parts += map(block_html, step_blocks(d, step))
    return "\n".join(parts)
