"""Two concentric circles."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from numerics.data.targets import labelled, require_count
from numerics.errors import InputRefused

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


def circles(
    n: int = 200,
    *,
    noise: float = 0.05,
    factor: float = 0.5,
    seed: int = 0,
    dtype: torch.dtype = torch.float64,
    device: torch.device | str | None = None,
) -> tuple[Float[Tensor, "n 2"], Float[Tensor, "n 2"]]:
    """Points of the plane in two classes, scikit-learn's circles.

    Args:
        n: number of examples, half of each class.
        noise: standard deviation of the points about their circle.
        factor: radius of the inner circle, the outer one's is 1.
        seed: of the points.
        dtype: floating dtype of both tensors.
        device: where they live; None is the CPU.

    Returns:
        Points and one-hot targets.

    Raises:
        InputRefused: if a setting is out of range.
    """
    from sklearn.datasets import make_circles  # costs a second

    require_count(n, None, "circles")
    if not 0 <= factor < 1 or noise < 0:
        raise InputRefused(f"factor must be in [0, 1) and noise at least 0, got {factor} and {noise}; try 0.5 and 0.05")
    points, labels = make_circles(n, noise=noise, factor=factor, random_state=seed)
    return labelled(points, labels, 2, dtype, device)
