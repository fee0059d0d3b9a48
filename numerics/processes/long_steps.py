r"""The stable and the central flow in steps of several optimizer steps.

Over a step the critical modes U, their third derivatives and X are held, and the averaged optimizer step is composed h times by a
stabilised polynomial. X keeps the margin at the *end* of the step: it is predicted with the last X, and (T11) then corrects it. The length
follows how far critical eigenvalues were found from λ* at the end of the last step. Rows in between are interpolated.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from numerics.derivatives import NonFiniteLoss
from numerics.eigen import Modes
from numerics.lowered import States
from numerics.matrix import times
from numerics.processes.averaged import AveragedFlow, Here, Oscillation, cost_row
from numerics.processes.process import Context, ProcessStopped, Row
from numerics.processes.propagator import Propagator
from numerics.processes.stabilised import Point, leap, stages_for

# A step is as long as keeps critical eigenvalues within this fraction of λ* at its end; it changes by at most this factor.
EXCESS, GROWTH = 0.01, 2.0
# Variances below this fraction of the largest are none.
ACTIVE = 1e-9
# An average of gradients relaxes by at most this share per step.
RELAXES = 1.0
# A step that needs so many times more evaluations than single steps would is not made.
WASTEFUL = 10
# Series that say how a step went, and are the same all through it.
HELD = ("sdcp_status", "complete")


@dataclass(frozen=True)
class _Step:
    """What a step starts from, with the last covariance on the present modes."""

    here: Here
    guess: Oscillation


class LongSteps(AveragedFlow):
    """A flow whose steps are up to `stride` optimizer steps long."""

    def __init__(
        self, context: Context, w: Tensor, states: States, name: str, *, oscillates: bool, stride: int, **settings: Any
    ) -> None:
        super().__init__(context, w, states, name, oscillates=oscillates, **settings)
        # Guards change much over a long step, so none is left aside. The first step is short: nothing is known of how they rise.
        self._tracker.period = 1
        self.stride, self._next_length = stride, 1
        self._here: Row = {}
        self._there: Row = {}
        self._position = self._length = 0
        self._core: Mapping[str, Any] = {}
        self._top, self._made = math.nan, 1  # λ/λ* of the top mode where the last step began, and that step's length
        self._failure: ProcessStopped | None = None  # of the long step that begins where the present one ends

    def step(self) -> Row:
        """Advance by one optimizer step.

        Returns:
            The row at the point before the step, interpolated between the ends of the long step.

        Raises:
            ProcessStopped: as for AveragedFlow.
        """
        if self._position == self._length:
            self._enter()
        share, there = self._position / self._length, self._ahead()
        row = _between(self._here, there, share)
        curved = _curved(self._here, there, share, self._length)
        row |= {key: row[key] + curved for key in ("loss", "predicted_loss")}
        self._position += 1
        return {key: value for key, value in row.items() if key not in {"at", "used", "length", "slope"}} | {
            key: row[key] / self._length for key in row if key.startswith("cost/")
        }

    def _ahead(self) -> Row:
        """The row at the end of the present long step."""
        self._there = self._there or self._leap()
        return self._there

    def _enter(self) -> None:
        """Begin the long step that was made ahead, for its other end to be measured.

        Raises:
            ProcessStopped: If it could not be made.
        """
        here = self._ahead()
        if self._failure:
            raise self._failure
        self._core = self._beyond()
        self._here, self._there, self._position, self._length = here, {}, 0, int(here["length"])

    def _leap(self) -> Row:
        """Measure at w, move by one long step, and return the row at the start with its length."""
        clock = [time.perf_counter()]
        local = self.context.problem.linearise(self.w)
        clock.append(time.perf_counter())
        a = self._updated(local, 1.0)
        P, threshold = self.context.preconditioner(a), float(self.context.rule.f.threshold(a))
        self._threshold = threshold
        modes = self._follow(local, P, threshold)
        clock.append(time.perf_counter())
        h = self._choose_length(modes, threshold)
        U = self._critical(modes, threshold)
        T = self._third(local, U) if U.shape[1] else local.grad.new_zeros(0, 0, len(self.w))
        clock.append(time.perf_counter())
        here = Here(local, a, P, threshold, modes)
        h, now, closing = self._moved(_Step(here, self._carried(here, U, T)), h)
        self._made = h
        clock.append(time.perf_counter())
        self.displacement = None  # is of the optimizer's present step, which lies behind
        mean = local.grad + self._pull(now.curvature_gradient) / 2
        slope = float(local.grad @ self.context.rule.f.velocity(a, local.w, mean))
        row = self._row(here, now) | cost_row(clock) | closing | {"complete": float(modes.complete)}
        return row | {"length": h, "at": local.w, "used": list(a), "slope": slope}

    def _moved(self, step: _Step, h: int) -> tuple[int, Oscillation, Row]:
        """As `_move`; where that fails, which matters only once the point is reached, nothing moves and the last covariance stands."""
        try:
            return self._move(step, h)
        except ProcessStopped as failure:
            self._failure = failure
            return h, step.guess, {"sdcp_status": 0.0}

    def _move(self, step: _Step, h: int) -> tuple[int, Oscillation, Row]:
        """Move by h, or by half of that as often as it leaves the domain; return the length, the covariance and what was found of it.

        Raises:
            ProcessStopped: If no step stays inside, or the point is far outside the stable set.
        """
        while h > 1:
            end = self._predicted(step, h)
            if self._inside(end):
                now, closing, corrected = self._corrected(step, end, h)
                if self._inside(corrected):
                    self.w, self.before, self._last = corrected[0].detach(), corrected[1:], now
                    return h, now, closing
            h = max(2, h // 2) if h > 2 else 1
            self._next_length = max(2, h)
        raise ProcessStopped(
            f"the {self.name} flow left its domain; lower the learning rate, start later or use stride 1"
        )

    def _inside(self, point: Point) -> bool:
        """Whether everything is finite and the preconditioner is one."""
        P = self.context.preconditioner(point[1:])
        return all(bool(torch.isfinite(x).all()) for x in (*point, P)) and bool((P >= 0).all())

    def _choose_length(self, modes: Modes, threshold: float) -> int:
        """The length that would have kept the last excess at its bound, the excess being quadratic in the length.

        Without an oscillation there is no excess to learn from: then it is what takes the top mode half of the way to λ*, at the rate
        of the last step.
        """
        ratios = modes.values / threshold - 1
        X = torch.linalg.eigvalsh(self._last.X)
        active = int(X.gt(ACTIVE * X[-1]).sum()) if len(X) else 0
        off = max(float(ratios.max()), float(ratios[:active].abs().max()) if active else 0.0)
        ratio = GROWTH if off <= EXCESS / GROWTH**2 else (EXCESS / off) ** 0.5
        length = self._next_length * max(1 / GROWTH, min(GROWTH, ratio))
        rise, self._top = (float(ratios[0]) + 1 - self._top) / self._made, float(ratios[0]) + 1
        if not active and rise > 0:
            length = min(length, max(0.0, EXCESS - float(ratios[0])) / (GROWTH * rise))
        self._next_length = max(2, min(self.stride, int(length)))
        return self._next_length

    def _carried(self, here: Here, U: Tensor, T: Tensor) -> Oscillation:
        """The last covariance on the present modes: X = C X C′ with C = UᵀPU₋."""
        C = times(here.P, U).T @ self._last.U
        return Oscillation(U, T, C @ self._last.X @ C.T, here.oscillation(U))

    def _predicted(self, step: _Step, h: int) -> Point:
        """W and the accumulators after h averaged steps with the covariance held."""
        start, o = (self.w, *self.before), step.guess
        first = self._increment(start, step.here.local.grad, step.here.a, o)
        self._fresh = False

        def increment(point: Point) -> Point:
            self.before, self._last = point[1:], o
            _, g = self.context.problem.gradient(point[0])
            return self._increment(point, g, self._accumulated(g, 1.0), o)

        try:
            return leap(increment, start, first, h, self._stages(step.here, h))
        except NonFiniteLoss:
            return tuple(torch.full_like(x, torch.nan) for x in start)
        finally:
            self.before = start[1:]

    def _stages(self, here: Here, h: int) -> int:
        """Stages for the fastest motion there is, of the weights or of the accumulators.

        Raises:
            ProcessStopped: If that is too fast.
        """
        largest = max(RELAXES, float(here.modes.values[0]))
        stages = stages_for(h, largest) if largest < math.inf else math.inf
        if stages > WASTEFUL * h:
            raise ProcessStopped(
                f"the {self.name} flow is far outside the stable set (the top eigenvalue of P⁻¹H is {largest:.3g}, the threshold "
                f"{here.threshold:.3g}); lower the learning rate or start later"
            )
        return int(stages)

    def _increment(self, point: Point, g: Tensor, a: States, o: Oscillation) -> Point:
        """What one averaged optimizer step adds to w and the accumulators before it."""
        f, (w, *accumulators) = self.context.rule.f, point
        velocity = f.velocity(a, w, g)
        if o.X.numel():
            velocity = velocity + f.velocity_X(a, self._pull(o.curvature_gradient))
        return (velocity, *(x - b for x, b in zip(a, accumulators, strict=True)))

    def _corrected(self, step: _Step, end: Point, h: int) -> tuple[Oscillation, Row, Point]:
        """The covariance that (T11) asks for at the end, what was found of it, and the end moved by what differs from the guess."""
        f, here, guess = self.context.rule.f, step.here, step.guess
        propagator = Propagator.at(here.modes, here.P, h, min(self.fast * here.threshold, 1 / h))

        def displaced(o: Oscillation) -> Tensor:
            push = f.velocity_X(here.a, self._pull(o.curvature_gradient))
            return propagator.displace(push, push)

        smooth = end[0] - self.w - displaced(guess) if guess.X.numel() else end[0] - self.w
        now, closing = self._close(here, guess.U, guess.T, smooth, 1.0, propagator, h)
        if not now.X.numel():
            return now, closing, end
        change = Oscillation(now.U, now.T, now.X - guess.X, now.y)
        ahead = self._advanced(here.a, h)
        means = self._means(ahead, here.local.grad)
        moved = f.implicit(ahead, *means, [h * r for r in self._oscillating_rate(ahead, means, change)], h)
        accumulators = (x + m for x, m in zip(end[1:], moved, strict=True))
        return now, closing, (end[0] + displaced(change), *accumulators)

    def finals(self) -> Row:
        """Weights after the last step, and the accumulators used in it."""
        if not self._position:
            return super().finals()
        here, there, last = self._here, self._ahead(), (self._position - 1) / self._length
        used = [_mixed(a, b, last) for a, b in zip(here["used"], there["used"], strict=True)]
        weights = _mixed(here["at"], there["at"], self._position / self._length)
        return {"weights": weights, "states": self.context.rule.unpack(tuple(used), self.context.rule.accumulators)}

    def state(self) -> Mapping[str, Any]:
        """See Process; what follows the present long step is made again."""
        return {
            "core": self._core or self._beyond(),
            "here": self._here,
            "position": self._position,
            "length": self._length,
        }

    def _beyond(self) -> Mapping[str, Any]:
        """The state at the end of the last step made."""
        return {**super().state(), "next_length": self._next_length, "top": self._top, "made": self._made}

    def restore(self, state: Mapping[str, Any]) -> None:
        """See Process."""
        core = self._core = state["core"]
        super().restore(core)
        self._next_length, self._top, self._made = int(core["next_length"]), float(core["top"]), int(core["made"])
        self._here, self._position, self._length = dict(state["here"]), int(state["position"]), int(state["length"])
        self._there = {}


def _between(here: Row, there: Row, share: float) -> Row:
    """Row entries at a fraction of the way: numbers and vectors of one shape linearly, everything else as at the start."""
    return {key: value if key in HELD else _mixed(value, there.get(key), share) for key, value in here.items()}


def _curved(here: Row, there: Row, share: float, length: int) -> float:
    """What a cubic with the loss's slopes at both ends adds to the straight line; slopes are limited so that it is monotone."""
    rise: float = there["loss"] - here["loss"]
    start, end = (min(3.0, max(0.0, length * row["slope"] / rise)) * rise if rise else 0.0 for row in (here, there))
    rest = 1 - share
    extra: float = share * rest * (rest * (start - rise) - share * (end - rise))
    return extra


def _mixed(a: Any, b: Any, share: float) -> Any:
    if isinstance(a, float) and isinstance(b, float):
        return a + share * (b - a)
    if isinstance(a, Tensor) and isinstance(b, Tensor) and a.is_floating_point() and a.shape == b.shape:
        return a + share * (b - a)
    return a
