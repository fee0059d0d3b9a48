"""Sorting: a sequence of tokens, then the same tokens in ascending order."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from numerics.boundary import CPU, seeded_generator
from numerics.data.targets import one_hot, require_count
from numerics.errors import InputRefused

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor


def sorting(
    n: int = 100,
    *,
    length: int = 6,
    vocabulary: int = 8,
    seed: int = 0,
    dtype: torch.dtype = torch.float64,
    device: torch.device | str | None = None,
) -> tuple[Int[Tensor, "n T"], Float[Tensor, "n vocabulary length"]]:
    """Inputs x₁ … x_L, a separator, y₁ … y_{L−1}; targets y₁ … y_L at the last L positions, y the sorted x.

    Args:
        n: number of sequences.
        length: L, of each.
        vocabulary: number of different tokens; the separator comes on top.
        seed: of the tokens.
        dtype: floating dtype of the targets.
        device: where they live; None is the CPU.

    Returns:
        Tokens (n, 2L) and one-hot targets, position t of which belongs to the input position L + t.

    Raises:
        InputRefused: if a size is not positive.
    """
    x = random_tokens(n, length, vocabulary, seed)
    y = x.sort(1).values
    separator = torch.full_like(x[:, :1], vocabulary)
    inputs = torch.cat([x, separator, y[:, :-1]], 1)
    return inputs.to(device or CPU), one_hot(y, vocabulary, dtype).to(device or CPU)


def random_tokens(n: int, length: int, vocabulary: int, seed: int) -> Int[Tensor, "n length"]:
    """Return tokens drawn uniformly, on the CPU.

    Raises:
        InputRefused: if a size is not positive.
    """
    require_count(n, None, "random sequences")
    if length < 1 or vocabulary < 2:
        raise InputRefused(
            f"length must be at least 1 and vocabulary at least 2, got {length} and {vocabulary}; try 6 and 8"
        )
    return torch.randint(vocabulary, (n, length), generator=seeded_generator(seed), device=CPU)
