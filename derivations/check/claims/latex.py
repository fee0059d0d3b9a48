"""Section 4: the document contains the expressions that were checked, printed from the same objects."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from derivations.check.claim import Claim, Evidence, Sample, refute
from derivations.check.subject import Subject
from theory.display import equation_lines
from theory.document import left_side
from theory.printer import to_latex


def inputs(subject: Subject) -> st.SearchStrategy[dict[str, Any]]:
    d = subject.d
    shown = [("preconditioner", "P", d.preconditioner), ("filter", "F(z)", d.filter)]
    shown += [("threshold", r"\lambda^*", d.stability.printed[1])]
    shown += [("rate", rf"{v}_dot" if str(v) != "w" else r"\dot w", e) for v, e in subject.central_flow.items()]
    return st.fixed_dictionaries({"equation": st.sampled_from(shown)})


def holds(subject: Subject, sample: Sample) -> Evidence:
    document = subject.document
    name, left, right = sample["equation"]
    for line in equation_lines(left_side(subject.d, left), right):
        if line not in document and line.replace("&", "") not in document:
            refute(f"the document does not contain the {name} {to_latex(right)}", line, "no such line")
    return Evidence()


CLAIM = Claim("the document states the expressions that were checked", "document", 9, inputs, holds, 10)
