"""Copying: a sequence of tokens to be kept in memory and repeated after a delay."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from numerics.boundary import CPU
from numerics.data.sorting import random_tokens
from numerics.data.targets import one_hot
from numerics.errors import InputRefused

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor


def copying(
    n: int = 100,
    *,
    length: int = 4,
    delay: int = 4,
    vocabulary: int = 8,
    seed: int = 0,
    dtype: torch.dtype = torch.float64,
    device: torch.device | str | None = None,
) -> tuple[Int[Tensor, "n T"], Float[Tensor, "n vocabulary length"]]:
    """Inputs x₁ … x_L, D blanks, a marker, L − 1 blanks; targets x₁ … x_L at the last L positions.

    Args:
        n: number of sequences.
        length: L, number of tokens to copy.
        delay: D, number of blanks between.
        vocabulary: number of different tokens; blank and marker come on top.
        seed: of the tokens.
        dtype: floating dtype of the targets.
        device: where they live; None is the CPU.

    Returns:
        Tokens (n, 2L + D) and one-hot targets.

    Raises:
        InputRefused: if a size is out of range.
    """
    if delay < 0:
        raise InputRefused(f"delay must be at least 0, got {delay}; try 4")
    x = random_tokens(n, length, vocabulary, seed)
    blank, marker = vocabulary, vocabulary + 1
    tail = torch.full((n, delay + length), blank, dtype=x.dtype, device=x.device)
    tail[:, delay] = marker
    return torch.cat([x, tail], 1).to(device or CPU), one_hot(x, vocabulary, dtype).to(device or CPU)
