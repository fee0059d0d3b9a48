"""Section 3: at λ = λ* the step has eigenvalue −1, and its filter states oscillate by G(−1) times the gradient."""

from __future__ import annotations

import numpy as np

from derivations.check.claim import Claim, Evidence, Sample, agree
from derivations.check.quadratics import hessian, modes, quadratics
from derivations.check.subject import Subject


def holds(subject: Subject, sample: Sample) -> Evidence:
    subject.certified(sample["hyper"])
    a = subject.accumulated(sample)
    point = subject.point(sample["hyper"], a)
    P, threshold = subject.preconditioner(point), subject.threshold(point)
    fractions = [1.0, *sample["fractions"][1:]]
    H = hessian(P, sample["basis"], [f * threshold for f in fractions])
    jacobian = subject.frozen(sample["hyper"], a).jacobian(H)
    u = modes(P, sample["basis"])[:, 0]
    gradient = H @ u
    gains = subject.d.normal_form.at_gain(-1)
    # Filter states before the step, w = u: those that the step turns into their negative.
    old = {str(m): subject.layout.evaluate(gains[m], point) * gradient for m in subject.d.normal_form.filters}
    mode = np.concatenate([u, *(old[n] for n in subject.filters)])
    return Evidence(agree("the mode after one step", -mode, jacobian @ mode))


CLAIM = Claim("the critical mode flips, its filter states with G(−1)", "(T3), section 3", 3, quadratics, holds, 40)
