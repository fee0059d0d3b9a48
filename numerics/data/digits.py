"""The handwritten digits bundled with scikit-learn: 8×8 pixels, ten classes, 1797 rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from numerics.boundary import CPU, to_tensor
from numerics.errors import InputRefused

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


def digits(
    n: int = 300, *, dtype: torch.dtype = torch.float64, device: torch.device | str | None = None
) -> tuple[Float[Tensor, "n 64"], Float[Tensor, "n 10"]]:
    """Rows 0…n−1: pixels divided by 16, so in [0, 1], and one-hot targets.

    Args:
        n: number of examples, 1 to 1797.
        dtype: floating dtype of both tensors.
        device: where they live; None is the CPU.

    Returns:
        Inputs (n, 64) and targets (n, 10).

    Raises:
        InputRefused: if n is out of range.
    """
    from sklearn.datasets import load_digits  # costs a second, and only those who ask for the data should pay

    pixels, labels = load_digits(return_X_y=True)
    if not 1 <= n <= len(labels):
        raise InputRefused(f"n must be between 1 and {len(labels)}, got {n}; the bundled digits have no more rows")
    like = torch.empty((), dtype=dtype, device=device or CPU)
    inputs = to_tensor(pixels[:n] / 16.0, like)
    targets = to_tensor(labels[:n, None] == range(10), like)
    return inputs, targets
