"""(T7): one linearly implicit step of length 1 of the accumulators' flow is the optimizer's averaged update."""

from __future__ import annotations

import numpy as np
import sympy as sp

from derivations.check.claim import Claim, Evidence, Sample, agree
from derivations.check.oscillations import average_update, oscillations
from derivations.check.rates import accumulator_rates, implicit
from derivations.check.subject import Subject


def holds(subject: Subject, sample: Sample) -> Evidence:
    before, g, C = subject.accumulated(sample), sample["g"], sample["root_of_X"]
    flips = [C[0, k] * sample["y"][0] + C[1, k] * sample["y"][1] for k in range(2)]
    after = average_update(subject, sample["hyper"], before, g, flips)
    ahead = subject.ahead(sample["hyper"], before)
    point = subject.point(sample["hyper"], ahead, g=g)
    rates = accumulator_rates(subject, point, C @ C.T, sample["y"])
    change = implicit(subject, point, rates)
    errors = []
    for n in subject.accumulators:
        scale = float(np.abs(before[n]).max())
        moved = ahead[n] if n in subject.clocks else before[n] + change[n]
        errors.append(agree(f"{n} after one step of length 1", moved, after[n], scale=scale))
    return Evidence(max(errors))


def missing(subject: Subject) -> str | None:
    """The statement is exact only for maps that are affine in the accumulators that see the gradient."""
    if not subject.driven:
        return "no accumulators that see the gradient"
    moving = [subject.d.update.old(n) for n in subject.driven]
    maps = [subject.d.averages.mean[a] for a in moving]
    curved = any(
        sp.diff(sp.diff(f, a), b) != 0 for f in maps for a in moving for b in moving if not f.atoms(sp.Function)
    )
    return "the averaged map is not affine in the accumulators" if curved else None


CLAIM = Claim("one implicit step of length 1 is the averaged update", "(T7)", 4, oscillations, holds, 40, missing)
