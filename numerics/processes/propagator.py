r"""One step of the smooth motion: forward Euler in slow directions, exponential in the tracked fast modes.

At length 1, forward Euler in w and implicit Euler in the accumulators *are* the optimizer with its gradient averaged, so slow
directions carry no discretisation error against it. In a mode with λ near or above 1 the optimizer oscillates and the flow must
not: there ẋ = −λx + f is solved exactly, with f held constant over the step.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from numerics.eigen import Modes
from numerics.matrix import times


@dataclass(frozen=True)
class Propagator:
    """Linear map from a constant velocity to the displacement over a step of length h (optimizer steps)."""

    U: Tensor
    dual: Tensor  # PU, so that coordinates of v are (PU)ᵀv
    values: Tensor
    h: float

    @classmethod
    def at(cls, modes: Modes, P: Tensor, h: float, above: float) -> Propagator:
        """Treat the modes with λ ≥ above exponentially."""
        fast = modes.values >= above
        U = modes.U[:, fast]
        return cls(U, times(P, U), modes.values[fast], h)

    def displace(self, slow: Tensor, fast: Tensor) -> Tensor:
        """Displacement by velocities that act through the step, (..., n): ``fast`` in the tracked modes, ``slow`` elsewhere.

        They differ where a filter stands between gradient and step: a critical mode follows its forcing at once, whatever
        the filter, since x = F/(z − 1 + λF) f is f/λ for slow f.
        """
        x = self.values * self.h
        along = self.h * ((fast @ self.dual) * (-torch.expm1(-x) / x) - slow @ self.dual)
        return self.h * slow + along @ self.U.T
