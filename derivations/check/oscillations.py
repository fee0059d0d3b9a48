"""Period-2 oscillations: brute-force averages of the optimizer's own update over the signs of every mode."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from typing import Any

import numpy as np
from hypothesis import strategies as st

from derivations.check import draw
from derivations.check.numbers import Array
from derivations.check.subject import Subject


def oscillations(subject: Subject, **more: Any) -> st.SearchStrategy[dict[str, Any]]:
    """Hyperparameters, states, a mean gradient, two modes' gradient oscillations and a covariance X = CCᵀ on them."""
    n = subject.layout.n
    square = st.lists(st.integers(-8, 8), min_size=4, max_size=4).map(lambda x: np.array(x).reshape(2, 2) / 8)
    return st.fixed_dictionaries({
        "hyper": draw.hyperparameters(subject),
        "states": draw.states(subject, first=2),
        "w": draw.vectors(n),
        "g": draw.nonzero(n),
        "y": draw.vectors(n, 2),
        "root_of_X": square,
        **more,
    })


def average_update(
    subject: Subject,
    hyper: Mapping[str, float],
    before: Mapping[str, Array],
    mean: Array,
    flips: list[Array],
    offset: Mapping[str, Array] | None = None,
) -> dict[str, Array]:
    """Next accumulators, averaged over the signs of all flips, with filter states that have oscillated for ever.

    Args:
        subject: whose optimizer is stepped.
        hyper: hyperparameters.
        before: accumulators before the step.
        mean: of the gradient.
        flips: of the gradient, by independent modes.
        offset: of the filter states before the step from where they oscillate about.

    Returns:
        The averages.
    """
    frozen, optimizer = subject.frozen(hyper, subject.ahead(hyper, before)), subject.optimizer(hyper)
    results: list[dict[str, Array]] = []
    for signs in product((1, -1), repeat=len(flips)):
        flip = sum((s * f for s, f in zip(signs, flips, strict=True)), np.zeros(subject.layout.n))
        after_other = frozen.periodic(mean, flip)[1]
        raw = {n: (m + (offset or {}).get(n, 0.0)) / frozen.scale(n, before) for n, m in after_other.items()}
        results.append(optimizer.step(0 * mean, mean + flip, dict(before) | raw)[1])
    return {n: np.mean([r[n] for r in results], axis=0) for n in before}


def pair_sum(X: Array, y: list[Array], value: Any) -> Any:
    """∑ X_kl value(y_k, y_l)."""
    return sum(X[k, j] * value(y[k], y[j]) for k in range(len(y)) for j in range(len(y)))
