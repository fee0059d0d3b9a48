"""Two interleaved half circles."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from numerics.data.targets import labelled, require_count
from numerics.errors import InputRefused

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


def moons(
    n: int = 200,
    *,
    noise: float = 0.1,
    seed: int = 0,
    dtype: torch.dtype = torch.float64,
    device: torch.device | str | None = None,
) -> tuple[Float[Tensor, "n 2"], Float[Tensor, "n 2"]]:
    """Points of the plane in two classes, scikit-learn's moons.

    Args:
        n: number of examples, half of each class.
        noise: standard deviation of the points about their half circle.
        seed: of the points.
        dtype: floating dtype of both tensors.
        device: where they live; None is the CPU.

    Returns:
        Points and one-hot targets.

    Raises:
        InputRefused: if a setting is out of range.
    """
    from sklearn.datasets import make_moons  # costs a second

    require_count(n, None, "moons")
    if noise < 0:
        raise InputRefused(f"noise must be at least 0, got {noise}; try 0.1")
    points, labels = make_moons(n, noise=noise, random_state=seed)
    return labelled(points, labels, 2, dtype, device)
