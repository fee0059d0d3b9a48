"""A small convolutional network."""

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


class CNN(Architecture):
    """Blocks of 3×3 convolution, activation and 2×2 average pooling, then one linear layer.

    Average pooling, because max-pooling is not twice differentiable. Flat inputs (batch, channels·size²) are accepted
    and reshaped, so the digits can be fed as they are.
    """

    takes: ClassVar[tuple[str, ...]] = ("images",)

    def __init__(
        self,
        channels: Sequence[int] = (1, 8, 16),
        size: int = 8,
        classes: int = 10,
        activation: str = "gelu",
        *,
        seed: int = 0,
        dtype: torch.dtype = torch.float64,
        device: torch.device | str | None = None,
    ) -> None:
        """Build the layers.

        Args:
            channels: of the input and after each block.
            size: height and width of the input; must be divisible by 2 once per block.
            classes: number of outputs.
            activation: a name in `layers.ACTIVATIONS`.
            seed: of the initialisation, drawn on the CPU.
            dtype: of the parameters.
            device: None is the CPU.

        Raises:
            InputRefused: if the size cannot be halved that often, or there is no block.
        """
        super().__init__()
        blocks = len(channels) - 1
        if blocks < 1 or size % 2**blocks:
            raise InputRefused(
                f"channels needs an input and at least one block, and size must be divisible by 2 per block, got "
                f"channels {tuple(channels)} and size {size}; for example channels (1, 8, 16) and size 8"
            )
        self.shape = (channels[0], size, size)

        def make() -> list[nn.Module]:
            made: list[nn.Module] = []
            for c_in, c_out in pairwise(channels):
                made += [
                    nn.Conv2d(c_in, c_out, 3, padding=1, dtype=dtype, device=CPU),
                    activation_layer(activation),
                    nn.AvgPool2d(2),
                ]
            features = channels[-1] * (size >> blocks) ** 2
            return [*made, nn.Flatten(), nn.Linear(features, classes, dtype=dtype, device=CPU)]

        self.layers = build_seeded(make, seed).to(device=device or CPU)

    def forward(self, x: Float[Tensor, "batch ..."]) -> Float[Tensor, "batch classes"]:
        """Return the outputs of a batch."""
        y: Tensor = self.layers(x.reshape(-1, *self.shape))
        return y

    @classmethod
    def for_data(
        cls, data: Data, *, channels: Sequence[int] = (8, 16), activation: str = "gelu", seed: int = 0
    ) -> Self:
        """A CNN for these images.

        Args:
            data: (inputs, targets).
            channels: after each block.
            activation: smooth nonlinearity.
            seed: of the initialisation.

        Returns:
            The network, where the targets are.
        """
        inputs, targets = accept_data(cls, data)
        return cls(
            (inputs.shape[1], *channels),
            inputs.shape[2],
            targets.shape[1],
            activation,
            seed=seed,
            dtype=targets.dtype,
            device=targets.device,
        )
