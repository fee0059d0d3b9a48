"""Mamba: a selective state space model, its scan in plain operations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import torch
from torch import nn

from numerics.boundary import CPU
from numerics.errors import InputRefused
from numerics.models.architecture import Data, accept_data
from numerics.models.layers import RMSNorm, seeded
from numerics.models.sequence import SequenceModel, sizes

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

STEP_RANGE = (0.01, 1.0)  # of Δ at the start: memories of 1 to 100 positions, as suits short sequences


def selective_scan(
    u: Float[Tensor, "batch T channels"],
    step: Float[Tensor, "batch T channels"],
    A: Float[Tensor, "channels states"],
    B: Float[Tensor, "batch T states"],
    C: Float[Tensor, "batch T states"],
) -> Float[Tensor, "batch T channels"]:
    """y_t = h_t C_t with h_t = exp(Δ_t A) h_{t−1} + Δ_t u_t B_tᵀ, h_0 = 0, for each channel its own states.

    Δ, B and C depend on the position (the selection). `step` is Δ; A < 0 lets the states decay.
    """
    decay = (step[..., None] * A).exp()
    drive = (step * u)[..., None] * B[:, :, None]
    h = torch.zeros_like(drive[:, 0])
    outputs = []
    for a, b, c in zip(decay.unbind(1), drive.unbind(1), C.unbind(1), strict=True):
        h = a * h + b
        outputs.append((h @ c[..., None])[..., 0])
    return torch.stack(outputs, 1)


class MambaBlock(nn.Module):
    """x + write(y·SiLU(z)): u and z are read from norm(x), u passes a causal convolution per channel and the scan to y.

    Δ = softplus(…u), B = …u and C = …u are linear in u at each position; A = −exp(log_decay); y = scan + skip·u.
    """

    def __init__(
        self, width: int, states: int, taps: int, expansion: int, *, dtype: torch.dtype, device: torch.device
    ) -> None:
        super().__init__()
        inner = expansion * width
        place: dict[str, Any] = {"dtype": dtype, "device": device}
        self.taps, self.states = taps, states
        self.norm = RMSNorm(width, dtype=dtype, device=device)
        self.read = nn.Linear(width, 2 * inner, bias=False, **place)
        self.convolution = nn.Conv1d(inner, inner, taps, groups=inner, **place)
        self.select = nn.Linear(inner, 2 * states, bias=False, **place)
        self.step = nn.Linear(inner, inner, **place)
        self.log_decay = nn.Parameter(torch.arange(1, states + 1, dtype=dtype, device=device).log().repeat(inner, 1))
        self.skip = nn.Parameter(torch.ones(inner, dtype=dtype, device=device))
        self.write = nn.Linear(inner, width, bias=False, **place)
        low, high = (torch.tensor(s, dtype=dtype, device=device).log() for s in STEP_RANGE)
        start = (low + (high - low) * torch.rand(inner, dtype=dtype, device=device)).exp()
        with torch.no_grad():
            self.step.bias.copy_(start.expm1().log())  # softplus(bias) = start

    def forward(self, x: Float[Tensor, "batch T width"]) -> Float[Tensor, "batch T width"]:
        """Return the block's output."""
        u, z = self.read(self.norm(x)).chunk(2, -1)
        padded = nn.functional.pad(u.transpose(1, 2), (self.taps - 1, 0))
        u = nn.functional.silu(self.convolution(padded).transpose(1, 2))
        B, C = self.select(u).chunk(2, -1)
        step = nn.functional.softplus(self.step(u))
        y = selective_scan(u, step, -self.log_decay.exp(), B, C) + self.skip * u
        out: Tensor = x + self.write(y * nn.functional.silu(z))
        return out


class Mamba(SequenceModel):
    """Residual selective state space blocks, a last normalisation and a linear readout."""

    def __init__(
        self,
        inputs: int = 9,
        outputs: int = 8,
        width: int = 12,
        depth: int = 2,
        states: int = 4,
        taps: int = 3,
        expansion: int = 2,
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
            depth: number of blocks.
            states: per channel.
            taps: of the convolution.
            expansion: channels of a block, in widths.
            tokens: whether inputs are integers.
            positions: read out, counted from the end; 0: the last, without its axis.
            seed: of the initialisation.
            dtype: of the parameters.
            device: None is the CPU.

        Raises:
            InputRefused: if a size is not positive.
        """
        with seeded(seed):
            super().__init__(inputs, outputs, width, tokens=tokens, positions=positions, dtype=dtype)
            if min(depth, states, taps, expansion) < 1:
                raise InputRefused(
                    f"depth, states, taps and expansion must be positive, got {depth}, {states}, {taps} and "
                    f"{expansion}; try 2, 4, 3 and 2"
                )
            blocks = (MambaBlock(width, states, taps, expansion, dtype=dtype, device=CPU) for _ in range(depth))
            self.blocks = nn.Sequential(*blocks, RMSNorm(width, dtype=dtype, device=CPU))
        self.to(device=device or CPU)

    def body(self, x: Tensor) -> Tensor:
        """Return hidden vectors (batch, T, width)."""
        y: Tensor = self.blocks(x)
        return y

    @classmethod
    def for_data(
        cls,
        data: Data,
        *,
        width: int = 12,
        depth: int = 2,
        states: int = 4,
        taps: int = 3,
        expansion: int = 2,
        seed: int = 0,
    ) -> Self:
        """A Mamba for these sequences.

        Args:
            data: (inputs, targets).
            width: of the hidden vectors.
            depth: number of blocks.
            states: per channel.
            taps: of the causal convolution.
            expansion: channels of a block, in widths.
            seed: of the initialisation.

        Returns:
            The network, where the targets are.
        """
        inputs, targets = accept_data(cls, data)
        return cls(
            **sizes(inputs, targets),
            width=width,
            depth=depth,
            states=states,
            taps=taps,
            expansion=expansion,
            seed=seed,
            dtype=targets.dtype,
            device=targets.device,
        )
