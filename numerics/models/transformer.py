"""A causal transformer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

import torch
from torch import nn

from numerics.boundary import CPU
from numerics.errors import InputRefused
from numerics.models.architecture import Data, accept_data
from numerics.models.attention import AttentionBlock
from numerics.models.layers import LayerNorm, seeded
from numerics.models.sequence import SequenceModel, sizes

if TYPE_CHECKING:
    from torch import Tensor


class Transformer(SequenceModel):
    """Learned positions, pre-norm blocks of causal attention and an MLP, a last normalisation and a linear readout."""

    def __init__(
        self,
        inputs: int = 9,
        outputs: int = 8,
        length: int = 12,
        width: int = 16,
        heads: int = 2,
        depth: int = 2,
        activation: str = "gelu",
        *,
        tokens: bool = True,
        positions: int = 1,
        seed: int = 0,
        dtype: torch.dtype = torch.float64,
        device: torch.device | str | None = None,
    ) -> None:
        """Build the layers under the seed, on the CPU, and move them to the device.

        Args:
            inputs: number of different tokens, or length of the vectors.
            outputs: per position.
            length: of the longest sequence.
            width: of the hidden vectors.
            heads: of the attention; must divide width.
            depth: number of blocks.
            activation: a name in `layers.ACTIVATIONS`.
            tokens: whether inputs are integers.
            positions: read out, counted from the end; 0: the last, without its axis.
            seed: of the initialisation.
            dtype: of the parameters.
            device: None is the CPU.

        Raises:
            InputRefused: if there is no block or no position.
        """
        with seeded(seed):
            super().__init__(inputs, outputs, width, tokens=tokens, positions=positions, dtype=dtype)
            if depth < 1 or length < 1:
                raise InputRefused(f"depth and length must be positive, got {depth} and {length}; try 2 and 12")
            self.places = nn.Parameter(0.02 * torch.randn(length, width, dtype=dtype, device=CPU))
            blocks = (
                AttentionBlock(width, heads, activation, causal=True, dtype=dtype, device=CPU) for _ in range(depth)
            )
            self.blocks = nn.Sequential(*blocks, LayerNorm(width, dtype=dtype, device=CPU))
        self.to(device=device or CPU)

    def body(self, x: Tensor) -> Tensor:
        """Return hidden vectors (batch, T, width), T at most the length."""
        y: Tensor = self.blocks(x + self.places[: x.shape[1]])
        return y

    @classmethod
    def for_data(
        cls, data: Data, *, width: int = 16, heads: int = 2, depth: int = 2, activation: str = "gelu", seed: int = 0
    ) -> Self:
        """A transformer for these sequences.

        Args:
            data: (inputs, targets).
            width: of the hidden vectors.
            heads: of the attention; must divide width.
            depth: number of blocks.
            activation: smooth nonlinearity.
            seed: of the initialisation.

        Returns:
            The network, where the targets are.
        """
        inputs, targets = accept_data(cls, data)
        return cls(
            **sizes(inputs, targets),
            length=inputs.shape[1],
            width=width,
            heads=heads,
            depth=depth,
            activation=activation,
            seed=seed,
            dtype=targets.dtype,
            device=targets.device,
        )
