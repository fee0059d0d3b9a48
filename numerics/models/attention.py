"""Self-attention in plain operations: the fused kernels have no second derivative."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from numerics.errors import InputRefused
from numerics.models.layers import LayerNorm, activation_layer

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


def attention(
    q: Float[Tensor, "... T d"], k: Float[Tensor, "... S d"], v: Float[Tensor, "... S e"], *, causal: bool = False
) -> Float[Tensor, "... T e"]:
    """softmax(q kᵀ/√d) v; causal: position t sees positions up to t only.

    Returns:
        What `torch.nn.functional.scaled_dot_product_attention` returns, without dropout.
    """
    scores = q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5
    if causal:
        future = torch.ones(scores.shape[-2:], dtype=torch.bool, device=q.device).triu(1)
        scores = scores.masked_fill(future, float("-inf"))
    mixed: Tensor = scores.softmax(-1) @ v
    return mixed


class SelfAttention(nn.Module):
    """Multi-head self-attention of width `width`, which the number of heads must divide."""

    def __init__(self, width: int, heads: int, *, causal: bool, dtype: torch.dtype, device: torch.device) -> None:
        super().__init__()
        if heads < 1 or width % heads:
            raise InputRefused(f"heads must divide width, got {heads} heads and width {width}; try 2 and 16")
        self.heads, self.causal = heads, causal
        self.read = nn.Linear(width, 3 * width, dtype=dtype, device=device)
        self.write = nn.Linear(width, width, dtype=dtype, device=device)

    def forward(self, x: Float[Tensor, "batch T width"]) -> Float[Tensor, "batch T width"]:
        """Return the mixture of all positions, or of the earlier ones."""
        split = self.read(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        mixed = attention(*split.unbind(0), causal=self.causal)
        y: Tensor = self.write(mixed.transpose(1, 2).flatten(-2))
        return y


class AttentionBlock(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)): a transformer layer with the normalisation before (pre-norm)."""

    def __init__(
        self,
        width: int,
        heads: int,
        activation: str = "gelu",
        *,
        causal: bool,
        expansion: int = 2,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        super().__init__()
        self.norm1, self.norm2 = (LayerNorm(width, dtype=dtype, device=device) for _ in range(2))
        self.attention = SelfAttention(width, heads, causal=causal, dtype=dtype, device=device)
        self.mlp = nn.Sequential(
            nn.Linear(width, expansion * width, dtype=dtype, device=device),
            activation_layer(activation),
            nn.Linear(expansion * width, width, dtype=dtype, device=device),
        )

    def forward(self, x: Float[Tensor, "batch T width"]) -> Float[Tensor, "batch T width"]:
        """Return the layer's output."""
        x = x + self.attention(self.norm1(x))
        y: Tensor = x + self.mlp(self.norm2(x))
        return y
