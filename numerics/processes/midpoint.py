"""Midpoints w*_t = (w_{t−1} + 2w_t + w_{t+1})/4 of the discrete run: they cancel a period-2 oscillation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from numerics.processes.discrete import Discrete
from numerics.processes.process import Context, Row, spectrum_row, tracker


class Midpoint:
    """Follows a discrete process that has already made its step."""

    name = "midpoint"

    def __init__(self, context: Context, discrete: Discrete) -> None:
        self.context, self.discrete = context, discrete
        self.w, self.displacement = discrete.w, discrete.w * 0
        self._tracker = tracker(context, tol=1e-4)
        self._first = True

    def step(self) -> Row:
        """Measure at the midpoint of the discrete run's last three points.

        Returns:
            The row at w*_t; its preconditioner is the one of the discrete step t.
        """
        problem, rule, d = self.context.problem, self.context.rule, self.discrete
        # Row 0 has no predecessor: the midpoint is the starting point itself.
        self.w = d.current if self._first else (d.previous + 2 * d.current + d.w) / 4
        self.displacement, self._first = d.current - self.w, False
        local = problem.linearise(self.w)
        a = rule.select(d.used)
        threshold = float(rule.f.threshold(a))
        modes = self._tracker.track(local.quick_hessian_product, self.context.preconditioner(a), 0.9 * threshold)
        row: Row = {"loss": float(local.loss), "gradient_norm2": float(local.grad @ local.grad)} | spectrum_row(
            modes, threshold
        )
        if self.context.keep_weights:
            row["weights_series"] = self.w
        return row

    def finals(self) -> Row:
        """The last midpoint."""
        return {"weights": self.w}

    def state(self) -> Mapping[str, Any]:
        """See Process."""
        return {"w": self.w, "first": int(self._first), "tracker": self._tracker.state()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """See Process."""
        self.w, self._first = state["w"], bool(int(state["first"]))
        self._tracker.restore(state["tracker"])
