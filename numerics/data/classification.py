"""A random classification problem."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from numerics.data.targets import labelled, require_count
from numerics.errors import InputRefused

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


def classification(
    n: int = 200,
    *,
    features: int = 16,
    classes: int = 3,
    flipped: float = 0.01,
    seed: int = 0,
    dtype: torch.dtype = torch.float64,
    device: torch.device | str | None = None,
) -> tuple[Float[Tensor, "n features"], Float[Tensor, "n classes"]]:
    """Gaussian clusters at the corners of a hypercube in half of the features, scikit-learn's; the rest are redundant.

    Args:
        n: number of examples.
        features: length of the vectors.
        classes: number of classes, one cluster each.
        flipped: fraction of labels drawn at random.
        seed: of everything.
        dtype: floating dtype of both tensors.
        device: where they live; None is the CPU.

    Returns:
        Vectors and one-hot targets.

    Raises:
        InputRefused: if a setting is out of range.
    """
    from sklearn.datasets import make_classification  # costs a second

    require_count(n, None, "classification problems")
    informative = (features + 1) // 2
    if features < 1 or not 2 <= classes <= 2**informative or not 0 <= flipped <= 1:
        raise InputRefused(
            f"classification needs 2 to 2^⌈features/2⌉ classes and a flipped fraction from 0 to 1, got {features} "
            f"features, {classes} classes and {flipped}; try 16, 3 and 0.01"
        )
    points, labels = make_classification(
        n, features, n_informative=informative, n_redundant=features - informative, n_classes=classes,
        n_clusters_per_class=1, flip_y=flipped, random_state=seed,
    )  # fmt: skip
    return labelled(points, labels, classes, dtype, device)
