"""Section 4: the printed central flow is the stable flow where Σ = 0, and its coefficients of X elsewhere."""

from __future__ import annotations

import numpy as np

from derivations.check.claim import Claim, Evidence, Sample, agree
from derivations.check.numbers import times
from derivations.check.oscillations import oscillations
from derivations.check.rates import accumulator_rates, weight_rate
from derivations.check.subject import CODE, Subject
from theory.symbols import HSH_matrix


def holds(subject: Subject, sample: Sample) -> Evidence:
    a, y, C = subject.accumulated(sample), sample["y"], sample["root_of_X"]
    point = subject.point(sample["hyper"], a, w=sample["w"], g=sample["g"])
    P = subject.preconditioner(point)
    X, errors = C @ C.T, []
    T = [[y[0], y[1]], [y[1], y[0] + y[1]]]
    q = sum(X[k, j] * T[k][j] for k in range(2) for j in range(2))
    variance = sum(X[k, j] * np.outer(y[k], y[j]) for k in range(2) for j in range(2))
    for covariance, with_q, with_variance, what in ((0 * X, 0 * q, 0 * variance, "at Σ = 0"), (X, q, variance, "at Σ")):
        values = point | {CODE["q"]: with_q, CODE["HSH"]: with_variance.diagonal(), HSH_matrix: with_variance}
        rates = {"w": weight_rate(subject, point, covariance, T)} | accumulator_rates(subject, point, covariance, y)
        for variable, expr in subject.central_flow.items():
            printed = subject.layout.evaluate(expr, values)
            rate = rates[str(variable)]
            if str(variable) == "w":
                printed, rate = times(P, printed), times(P, rate)
            errors.append(agree(f"rate of {variable} {what}", printed, rate, scale=1e-3))
    for variable, expr in subject.stable_flow.items():
        limit = subject.layout.evaluate(
            subject.central_flow[variable], point | {CODE["q"]: 0.0, CODE["HSH"]: 0.0, HSH_matrix: 0.0}
        )
        errors.append(agree(f"stable rate of {variable}", subject.layout.evaluate(expr, point), limit, scale=1e-12))
    return Evidence(max(errors))


CLAIM = Claim("Σ = 0 reduces the central to the stable flow", "(T8), (T9)", 4, oscillations, holds, 30)
