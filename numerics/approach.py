"""A start just below the edge of stability, and the learning rate that puts it there."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import torch

from numerics.eigen import EigenTracker
from numerics.errors import InputRefused
from numerics.processes import Context

if TYPE_CHECKING:
    from torch import Tensor

    from numerics.lowered import LoweredRule, States
    from numerics.problem import Problem

STEPS = 200  # of the warm-up
LEVEL, START = 0.25, 0.95  # of λ*, during the warm-up and at its end
NEAR = 0.99  # eigenvalues above this fraction of the last top one are computed accurately
LONGEST = 0.01  # step of the warm-up, relative to ‖w‖


class Approach(NamedTuple):
    """Where a run starts: weights, the optimizer's states by name, the learning rate, and its first step relative to ‖w‖."""

    w: Tensor
    state: dict[str, Tensor]
    lr: float
    step: float


def approach_edge(problem: Problem, unit: LoweredRule, double: LoweredRule, *, seed: int = 0) -> Approach:
    """Warm up well inside the stable set, then choose the learning rate with which the top eigenvalue of P⁻¹H is 0.95 λ*.

    Each of 200 steps from the rule's own initial state has the learning rate at which the top eigenvalue is λ*/4, or the step
    1 % of ‖w‖ if that is shorter: from an empty accumulator a first step may be far too long. It serves rules whose step is
    proportional to the learning rate and whose states and threshold do not depend on it, so that P⁻¹H is proportional to it too.

    Args:
        problem: the loss and the initial point.
        unit: the rule with the learning rate 1.
        double: the rule with the learning rate 2.
        seed: of the eigensolver's random directions.

    Returns:
        The start.

    Raises:
        InputRefused: for another rule, or where the top eigenvalue of the Hessian is not positive.
    """
    _refuse_other_rules(problem, unit, double)
    look = _Look(Context(problem, unit, False, seed), EigenTracker(problem.n, tol=1e-4, seed=seed))
    w, states = problem.w0, unit.initial()
    for _ in range(STEPS):
        move, states, edge = look(w, states)
        w = w + min(LEVEL * edge, LONGEST / _relative(move, w)) * move
    move, _, edge = look(w, states)
    if edge == math.inf:
        raise InputRefused(
            f"an edge needs a direction of positive curvature, but after {STEPS} steps the top eigenvalue of the Hessian is "
            "not positive; start from another point"
        )
    return Approach(w, unit.unpack(states), START * edge, START * edge * _relative(move, w))


def _relative(move: Tensor, w: Tensor) -> float:
    return float(move.norm() / w.norm())


class _Look:
    """Looks at one point after another, and follows the top eigenvalue."""

    def __init__(self, context: Context, tracker: EigenTracker) -> None:
        self.context, self.tracker, self.top = context, tracker, float("nan")

    def __call__(self, w: Tensor, states: States) -> tuple[Tensor, States, float]:
        """Return the step at the learning rate 1, the states after it, and the learning rate at which the top eigenvalue is λ*."""
        rule, local = self.context.rule, self.context.problem.linearise(w)
        w_next, states_next = rule.f.step(w, local.grad, states)
        a = rule.select(states_next)
        P = self.context.preconditioner(a)
        follow, product = self.tracker, local.hessian_product
        modes = follow.top(product, P) if math.isnan(self.top) else follow.track(product, P, NEAR * self.top)
        self.top = float(modes.values[0])
        edge = float(rule.f.threshold(a)) / self.top if self.top > 0 else math.inf
        return w_next - w, states_next, edge


def _refuse_other_rules(problem: Problem, unit: LoweredRule, double: LoweredRule) -> None:
    g, origin = problem.gradient(problem.w0)[1], torch.zeros_like(problem.w0)  # where no digit of a step is lost
    (w1, s1), (w2, s2) = (rule.f.step(origin, g, rule.initial()) for rule in (unit, double))
    same = [(a, b) for a, b in zip(s1, s2, strict=True)] + [(2 * w1, w2)]
    thresholds = [
        torch.as_tensor(rule.f.threshold(rule.select(s)), device=g.device) for rule, s in ((unit, s1), (double, s2))
    ]
    if not all(torch.allclose(a, b, rtol=1e-6, atol=0) for a, b in [*same, (thresholds[0], thresholds[1])]):
        raise InputRefused(
            f"a start at the edge needs steps proportional to the learning rate, and states and a threshold that do not depend "
            f"on it, which {unit.name!r} has not; choose a learning rate"
        )
