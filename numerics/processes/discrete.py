"""The optimizer itself, generated from the rule."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from numerics.lowered import States
from numerics.processes.process import Context, ProcessStopped, Row, spectrum_row, states_row, tracker

# Training is called off where the loss exceeds this many times its starting value.
DIVERGED = 1e4


class Discrete:
    """Real training: w_t and the states before the update at w_t."""

    name = "discrete"

    def __init__(self, context: Context, w: Tensor, states: States) -> None:
        self.context, self.w, self.states = context, w, states
        self.previous = self.current = w
        self.used: States = states
        self._tracker = tracker(context, tol=1e-4)
        self._start_loss: float | None = None

    def step(self) -> Row:
        """Take one optimizer step.

        Returns:
            The row at w_t.

        Raises:
            ProcessStopped: If training diverges.
        """
        problem, rule = self.context.problem, self.context.rule
        local = problem.linearise(self.w)
        loss = float(local.loss)
        self._start_loss = loss if self._start_loss is None else self._start_loss
        if loss > DIVERGED * max(self._start_loss, 1e-3):
            raise ProcessStopped(
                f"training diverged: the loss rose from {self._start_loss:.4g} to {loss:.4g}; lower the learning rate"
            )
        w_next, states = rule.f.step(self.w, local.grad, self.states)
        if not bool(torch.isfinite(w_next).all()):
            raise ProcessStopped("training diverged: the weights are no longer finite; lower the learning rate")
        a = rule.select(states)
        threshold = float(rule.f.threshold(a))
        modes = self._tracker.track(local.quick_hessian_product, self.context.preconditioner(a), 0.9 * threshold)
        row: Row = {"loss": loss, "gradient_norm2": float(local.grad @ local.grad)} | spectrum_row(modes, threshold)
        row |= states_row(rule, a, rule.accumulators, self.context.keep_weights)
        if self.context.keep_weights:
            row["weights_series"] = self.w
        self.previous, self.current, self.w = self.current, self.w, w_next
        self.states, self.used = states, states
        return row

    def finals(self) -> Row:
        """Weights and states after the last step."""
        return {"weights": self.w, "states": self.context.rule.unpack(self.states)}

    def state(self) -> Mapping[str, Any]:
        """See Process."""
        return {
            "w": self.w,
            "previous": self.previous,
            "current": self.current,
            "states": list(self.states),
            "start": self._start_loss,
            "tracker": self._tracker.state(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """See Process."""
        self.w, self.previous, self.current = state["w"], state["previous"], state["current"]
        self.states = self.used = tuple(state["states"])
        self._start_loss = None if state["start"] is None else float(state["start"])
        self._tracker.restore(state["tracker"])
