r"""h steps of a map at once: a polynomial of it that needs about √(hλ) evaluations, λ the largest eigenvalue of the motion.

The h-fold composition of the map y ↦ y + F(y) is y + hF + ½h(h−1) F′F + …. A Runge-Kutta-Legendre recursion of s stages matches this
to second order (the flow's own expansion has ½h² there) and stays bounded on −z, z = hλ ∈ [0, (s² + s − 2)/(2κ)], κ = 1 − 1/h.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from torch import Tensor

Point = tuple[Tensor, ...]
Increment = Callable[[Point], Point]

# The stages are chosen for an eigenvalue larger by this factor than the one that is known.
SAFETY = 1.1


def stages_for(h: int, largest: float) -> int:
    """Return the fewest stages that keep eigenvalues from 0 to `largest` ≥ 0 (per step) bounded over h ≥ 2 steps."""
    reach = 2 * (1 - 1 / h) * SAFETY * h * largest
    return max(3, math.ceil((math.sqrt(9 + 4 * reach) - 1) / 2))


def leap(increment: Increment, y: Point, first: Point, h: int, stages: int) -> Point:
    """Return about the h-fold composition of y ↦ y + F(y).

    Args:
        increment: F.
        y: the point.
        first: F(y).
        h: how many steps, at least 2.
        stages: evaluations of F, with the first one; at least 3.
    """
    kappa = 1 - 1 / h
    w1 = 4 * kappa / (stages**2 + stages - 2)
    b = [(j * j + j - 2) / (2 * j * (j + 1)) / kappa if j > 1 else 1 / 3 / kappa for j in range(stages + 1)]
    before, now = y, _combine((1, y), (b[1] * w1 * h, first))
    for j in range(2, stages + 1):
        mu, nu = (2 * j - 1) / j * b[j] / b[j - 1], -(j - 1) / j * b[j] / b[j - 2]
        step = mu * w1 * h
        following = _combine(
            (mu, now),
            (nu, before),
            (1 - mu - nu, y),
            (step, increment(now)),
            (-(1 - b[j - 1]) * step, first),
        )
        before, now = now, following
    return now


def _combine(*terms: tuple[float, Point]) -> Point:
    return tuple(
        sum((c * x for (c, _), x in zip(terms[1:], parts[1:], strict=True)), terms[0][0] * parts[0])
        for parts in zip(*(point for _, point in terms), strict=True)
    )
