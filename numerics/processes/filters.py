r"""What a flow keeps of the filter between gradient and step: its own states, one pole of equal lag, or nothing (THEORY section 4).

The averaged map keeps the rule's filter states and advances them as the optimizer does, with the averaged gradient: at one step
per optimizer step slow directions then carry no error at all. The inertial flow keeps one state m, ṁ = (E[g] − m)/lag, and can be
resolved as finely as one likes. The eliminated flow sets m = E[g].
"""

from __future__ import annotations

import math
from typing import Protocol

from torch import Tensor

from numerics.lowered import LoweredRule, States


class Filter(Protocol):
    """The filter of a flow; ``values`` are its states."""

    values: States

    def __init__(self, rule: LoweredRule, states: States) -> None: ...

    def start(self, a: States, g: Tensor) -> None:
        """Set the states at the first point of the flow."""

    def means(self, a: States, g: Tensor) -> tuple[States, States]:
        """Filter states before and after the update with mean gradient g, as the accumulators read them."""

    def drive(self, a: States, g: Tensor, h: float) -> Tensor:
        """F g with the states as they are."""

    def feedthrough(self, a: States, h: float) -> float:
        """The share of a gradient that acts within the step."""

    def advance(self, a: States, g: Tensor, h: float) -> None:
        """Advance the states by h with mean gradient g."""

    def substeps(self, threshold: float) -> int:
        """Flow steps per optimizer step that keep all modes up to λ* stable."""


class OwnFilter:
    """The rule's own filter states, advanced by its own recursion with the averaged gradient."""

    def __init__(self, rule: LoweredRule, states: States) -> None:
        self.f, self.values = rule.f, rule.unit_filters(states)

    def start(self, a: States, g: Tensor) -> None:
        """Nothing to do: the states are the optimizer's."""

    def means(self, a: States, g: Tensor) -> tuple[States, States]:
        """See Filter."""
        return self.values, self.f.filter_map(a, self.values, g)

    def drive(self, a: States, g: Tensor, h: float) -> Tensor:
        """See Filter."""
        drive: Tensor = self.f.drive(a, self.values, self.f.filter_map(a, self.values, g), g)
        return drive

    def feedthrough(self, a: States, h: float) -> float:
        """F(∞)."""
        return float(self.f.feedthrough(a))

    def advance(self, a: States, g: Tensor, h: float) -> None:
        """See Filter."""
        self.values = self.f.filter_map(a, self.values, g)

    def substeps(self, threshold: float) -> int:
        """One: the states are the optimizer's, which is stable up to λ*."""
        return 1


class Eliminated:
    """No filter: the states sit at their value for a constant gradient."""

    def __init__(self, rule: LoweredRule, states: States) -> None:
        self.f = rule.f
        self.values: States = ()

    def start(self, a: States, g: Tensor) -> None:
        """Nothing to do: there is no state."""

    def means(self, a: States, g: Tensor) -> tuple[States, States]:
        """See Filter."""
        settled = self.f.settled(a, g)
        return settled, settled

    def drive(self, a: States, g: Tensor, h: float) -> Tensor:
        """See Filter."""
        return g

    def feedthrough(self, a: States, h: float) -> float:
        """All of it."""
        return 1.0

    def advance(self, a: States, g: Tensor, h: float) -> None:
        """See Filter."""

    def substeps(self, threshold: float) -> int:
        """An explicit step is stable for λh ≤ 2; only the modes next to λ* are advanced exponentially."""
        return max(1, math.ceil(threshold / 2))


class OnePole(Eliminated):
    """One state m of unit gain and the filter's lag; stepped semi-implicitly: m first, then w with the new m."""

    def __init__(self, rule: LoweredRule, states: States) -> None:
        super().__init__(rule, states)
        self._given = rule.unit_filters(states)

    def start(self, a: States, g: Tensor) -> None:
        """Start at the m(0) that relaxes by the same total as the rule's own states."""
        self.values = (self.f.pole_start(a, self._given, g),)

    def drive(self, a: States, g: Tensor, h: float) -> Tensor:
        """See Filter."""
        (m,) = self.values
        return m + self.feedthrough(a, h) * (g - m)

    def feedthrough(self, a: States, h: float) -> float:
        """1 − e^{−h/lag}."""
        return -math.expm1(-h / float(self.f.lag(a)))

    def advance(self, a: States, g: Tensor, h: float) -> None:
        """See Filter."""
        self.values = (self.drive(a, g, h),)

    def substeps(self, threshold: float) -> int:
        """One: a step of one pole is stable for λ < 2 coth(1/(2 lag)), which lies above the λ* of an average with that lag."""
        return 1


def make_filter(form: str, rule: LoweredRule, states: States) -> Filter:
    """The filter of a flow of the given form; a rule without filter states needs none."""
    if not rule.filters:
        return Eliminated(rule, states)
    kinds: dict[str, type[Filter]] = {"map": OwnFilter, "inertial": OnePole, "eliminated": Eliminated}
    return kinds[form](rule, states)
