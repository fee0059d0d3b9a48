"""(T15): the slow root of the step's exact Jacobian is exp(−λ(1 + lag·λ) + O(λ³)), the penalty being ½·lag."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from derivations.check.claim import Claim, Evidence, Sample, agree_to_order
from derivations.check.draw import require
from derivations.check.quadratics import hessian, quadratics
from derivations.check.subject import Subject

SIZES = (0.04, 0.02, 0.01)
"""Of λ·max(1, lag): the expansion converges for λ well below 1/lag."""


def holds(subject: Subject, sample: Sample) -> Evidence:
    hyper, a = _without_decay(subject, sample["hyper"]), subject.accumulated(sample)
    point = subject.point(hyper, a)
    P = subject.preconditioner(point)
    lag = 2 * subject.layout.number(subject.d.modified_flow.penalty, point)
    require(subject.layout.number(subject.d.normal_form.gamma, point) == 0 and abs(lag) < 1e3)
    frozen, eye, scale = subject.frozen(hyper, a), np.eye(subject.layout.n), max(1.0, abs(lag))
    derived, measured = [], []
    for s in SIZES:
        lam = s / scale
        roots = np.linalg.eigvals(frozen.jacobian(hessian(P, eye, [lam] * subject.layout.n)))
        slow = roots[np.abs(roots - 1).argmin()]
        measured.append(np.array([np.log(complex(slow)).real * scale]))
        derived.append(np.array([-lam * (1 + lag * lam) * scale]))
    return agree_to_order("the logarithm of the slow root", derived, measured, 3, 1e-12 * scale)


def _without_decay(subject: Subject, hyper: Mapping[str, float]) -> dict[str, float]:
    """Hyperparameters with those at 0 that scale γ, where 0 is in their domain."""
    symbols, declared = subject.d.normal_form.gamma.free_symbols, subject.update.rule.hyper
    off = {n for n, s in subject.update.hyper.items() if s in symbols and 0 in declared[n].domain}
    return {n: 0.0 if n in off else v for n, v in hyper.items()}


CLAIM = Claim("the slow root gives the stable flow to second order", "(T15)", 4, quadratics, holds, 20)
