"""Fully connected networks."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, ClassVar, Self

import torch
from torch import nn

from numerics.boundary import CPU
from numerics.errors import InputRefused
from numerics.models.architecture import Architecture, Data, accept_data
from numerics.models.layers import activation_layer, build_seeded

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jaxtyping import Float
    from torch import Tensor


class MLP(Architecture):
    """Linear layers of the given widths with an activation between them, torch's default initialisation under `seed`.

    `MLP((64, 24, 24, 10))` is the network of the measured figures. Inputs with more axes are flattened.
    """

    takes: ClassVar[tuple[str, ...]] = ("vectors", "images", "series")

    def __init__(
        self,
        widths: Sequence[int] = (64, 24, 24, 10),
        activation: str = "gelu",
        *,
        seed: int = 0,
        dtype: torch.dtype = torch.float64,
        device: torch.device | str | None = None,
    ) -> None:
        """Build the layers.

        Args:
            widths: input, hidden and output sizes.
            activation: a name in `layers.ACTIVATIONS`.
            seed: of the initialisation; numbers are drawn on the CPU, so every device starts from the same network.
            dtype: of the parameters; drawn in float64 or float32 accordingly.
            device: None is the CPU.

        Raises:
            InputRefused: if fewer than two widths are given or one is not positive.
        """
        super().__init__()
        if len(widths) < 2 or min(widths) < 1:
            raise InputRefused(f"widths must be two or more positive sizes, got {tuple(widths)}; try (64, 24, 24, 10)")

        def make() -> list[nn.Module]:
            made: list[nn.Module] = []
            for width_in, width_out in pairwise(widths):
                made += [nn.Linear(width_in, width_out, dtype=dtype, device=CPU), activation_layer(activation)]
            return made[:-1]

        self.layers = build_seeded(make, seed).to(device=device or CPU)

    def forward(self, x: Float[Tensor, "batch ..."]) -> Float[Tensor, "batch outputs"]:
        """Return the outputs of a batch."""
        y: Tensor = self.layers(x.flatten(1))
        return y

    @classmethod
    def for_data(cls, data: Data, *, hidden: Sequence[int] = (24, 24), activation: str = "gelu", seed: int = 0) -> Self:
        """An MLP for these vectors.

        Args:
            data: (inputs, targets).
            hidden: widths of the layers between inputs and outputs.
            activation: smooth nonlinearity.
            seed: of the initialisation.

        Returns:
            The network, where the targets are.
        """
        inputs, targets = accept_data(cls, data)
        widths = (inputs[0].numel(), *hidden, targets.shape[1])
        return cls(widths, activation, seed=seed, dtype=targets.dtype, device=targets.device)
