"""What networks of sequences share: a read-in of tokens or vectors, a body that looks back only, and a readout."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import nn

from numerics.boundary import CPU
from numerics.errors import InputRefused
from numerics.models.architecture import Architecture

if TYPE_CHECKING:
    from jaxtyping import Shaped
    from torch import Tensor


class SequenceModel(Architecture):
    """Outputs at position t that depend on the inputs up to t only.

    The outputs of the last `positions` positions are returned as (batch, outputs, positions), the order of torch's
    cross-entropy; with positions = 0 those of the last one, as (batch, outputs).
    """

    takes: ClassVar[tuple[str, ...]] = ("tokens", "series")

    def __init__(
        self, inputs: int, outputs: int, width: int, *, tokens: bool, positions: int, dtype: torch.dtype
    ) -> None:
        """Make read-in and readout, on the CPU; the subclass adds the body.

        Args:
            inputs: number of different tokens, or length of the vectors.
            outputs: per position.
            width: of the hidden vectors.
            tokens: whether inputs are integers.
            positions: read out, counted from the end.
            dtype: of the parameters.

        Raises:
            InputRefused: if a size is not positive.
        """
        super().__init__()
        if min(inputs, outputs, width) < 1 or positions < 0:
            raise InputRefused(
                f"inputs, outputs and width must be positive and positions at least 0, got {inputs}, {outputs}, "
                f"{width} and {positions}; try 8, 8, 16 and 1"
            )
        self.positions, self.vocabulary = positions, inputs if tokens else 0
        place: dict[str, Any] = {"dtype": dtype, "device": CPU}
        self.read = nn.Embedding(inputs, width, **place) if tokens else nn.Linear(inputs, width, **place)
        self.readout = nn.Linear(width, outputs, **place)

    @abstractmethod
    def body(self, x: Tensor) -> Tensor:
        """Return hidden vectors (batch, T, width) made of those read in."""

    def forward(self, x: Shaped[Tensor, "batch T *d"]) -> Tensor:
        """Return the outputs of a batch of token sequences (batch, T) or series (batch, T, inputs)."""
        hidden = self.body(self.read(x))
        y: Tensor = self.readout(hidden[:, -max(1, self.positions) :])
        return y.transpose(1, 2) if self.positions else y[:, -1]


def sizes(inputs: Tensor, targets: Tensor) -> dict[str, Any]:
    """Return the arguments of `SequenceModel` that data determine.

    Raises:
        InputRefused: if there are more target positions than positions.
    """
    positions = targets.shape[2] if targets.ndim == 3 else 0
    if targets.ndim > 3 or positions > inputs.shape[1]:
        raise InputRefused(
            f"targets must be (n, outputs), or (n, outputs, positions) with at most T = {inputs.shape[1]} positions, "
            f"got shape {tuple(targets.shape)}; leave out what has no input"
        )
    tokens = not inputs.is_floating_point()
    count = int(inputs.max()) + 1 if tokens else inputs.shape[2]
    return {"inputs": count, "outputs": targets.shape[1], "tokens": tokens, "positions": positions}
