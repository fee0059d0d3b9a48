"""A long short-term memory, its cell in plain operations: fused cells have no third derivative on some devices."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

import torch
from torch import nn

from numerics.boundary import CPU
from numerics.errors import InputRefused
from numerics.models.architecture import Data, accept_data
from numerics.models.layers import seeded
from numerics.models.sequence import SequenceModel, sizes

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


class LSTMLayer(nn.Module):
    """c ← σ(f)·c + σ(i)·tanh(g), h ← σ(o)·tanh(c) with (i, f, g, o) = W x + V h + b, from h = c = 0.

    The parameters are those of one layer of `torch.nn.LSTM`, its two biases added: b starts as their sum would.
    """

    def __init__(self, inputs: int, width: int, *, dtype: torch.dtype, device: torch.device) -> None:
        super().__init__()
        bound = width**-0.5

        def drawn(*shape: int) -> nn.Parameter:
            return nn.Parameter(torch.empty(shape, dtype=dtype, device=device).uniform_(-bound, bound))

        self.weight_ih, self.weight_hh = drawn(4 * width, inputs), drawn(4 * width, width)
        self.bias = nn.Parameter(drawn(4 * width).detach() + drawn(4 * width).detach())

    def forward(self, x: Float[Tensor, "batch T inputs"]) -> Float[Tensor, "batch T width"]:
        """Return h after each position."""
        driven = nn.functional.linear(x, self.weight_ih, self.bias)
        h = c = x.new_zeros(len(x), self.weight_hh.shape[1])
        states = []
        for step in driven.unbind(1):
            i, f, g, o = (step + h @ self.weight_hh.mT).chunk(4, -1)
            c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            h = o.sigmoid() * c.tanh()
            states.append(h)
        return torch.stack(states, 1)


class LSTM(SequenceModel):
    """A stack of LSTM layers and a linear readout."""

    def __init__(
        self,
        inputs: int = 9,
        outputs: int = 8,
        width: int = 16,
        depth: int = 1,
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
            width: of the hidden vectors.
            depth: number of layers.
            tokens: whether inputs are integers.
            positions: read out, counted from the end; 0: the last, without its axis.
            seed: of the initialisation.
            dtype: of the parameters.
            device: None is the CPU.

        Raises:
            InputRefused: if there is no layer.
        """
        with seeded(seed):
            super().__init__(inputs, outputs, width, tokens=tokens, positions=positions, dtype=dtype)
            if depth < 1:
                raise InputRefused(f"depth must be positive, got {depth}; try 1")
            self.layers = nn.Sequential(*(LSTMLayer(width, width, dtype=dtype, device=CPU) for _ in range(depth)))
        self.to(device=device or CPU)

    def body(self, x: Tensor) -> Tensor:
        """Return the last layer's h, (batch, T, width)."""
        y: Tensor = self.layers(x)
        return y

    @classmethod
    def for_data(cls, data: Data, *, width: int = 16, depth: int = 1, seed: int = 0) -> Self:
        """An LSTM for these sequences.

        Args:
            data: (inputs, targets).
            width: of the hidden vectors.
            depth: number of layers.
            seed: of the initialisation.

        Returns:
            The network, where the targets are.
        """
        inputs, targets = accept_data(cls, data)
        return cls(
            **sizes(inputs, targets), width=width, depth=depth, seed=seed, dtype=targets.dtype, device=targets.device
        )
