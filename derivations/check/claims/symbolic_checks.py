"""What SymPy verified on the way is part of the claims: every check of every step came out true."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from derivations.check.claim import Claim, Evidence, Sample, refute
from derivations.check.subject import Subject


def inputs(subject: Subject) -> st.SearchStrategy[dict[str, Any]]:
    steps = [step.name for step in subject.d.steps if step.checks]
    return st.fixed_dictionaries({"step": st.sampled_from(steps)})


def holds(subject: Subject, sample: Sample) -> Evidence:
    step = next(s for s in subject.d.steps if s.name == sample["step"])
    for claim, held in (step.checks or {}).items():
        if not held:
            refute(f"{step.reference} {claim}", held, True)
    return Evidence()


CLAIM = Claim("every check that SymPy performed came out true", "all steps", 0, inputs, holds, 20)
