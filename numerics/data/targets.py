"""Points and labels as tensors, and what all data sets refuse."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from numerics.boundary import CPU, to_tensor
from numerics.errors import InputRefused

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from numpy.typing import ArrayLike
    from torch import Tensor


def one_hot(labels: Int[Tensor, n * positions], classes: int, dtype: torch.dtype) -> Float[Tensor, "n c *positions"]:
    """Return 1 at each label and 0 elsewhere, classes on axis 1 as in torch's cross-entropy.

    Raises:
        InputRefused: a label is not from 0 to classes − 1.
    """
    if labels.numel() and not 0 <= int(labels.min()) <= int(labels.max()) < classes:
        raise InputRefused(
            f"labels must be from 0 to {classes - 1}, got {int(labels.min())} to {int(labels.max())}; renumber them or "
            f"raise the number of classes"
        )
    return torch.nn.functional.one_hot(labels, classes).movedim(-1, 1).to(dtype)


def binary(targets: Float[Tensor, "n 2 *positions"]) -> Float[Tensor, "n 1 *positions"]:
    """Return one target for two classes: −1 for the first and 1 for the second.

    Raises:
        InputRefused: the targets are not one-hot rows of two classes.
    """
    if targets.shape[1] != 2 or not bool((targets.sum(1) == 1).all()):
        raise InputRefused(
            f"a binary loss needs one-hot targets of two classes, got {targets.shape[1]} outputs; choose data with two "
            f"classes, or another loss"
        )
    return targets[:, 1:] - targets[:, :1]


def distributions(targets: Float[Tensor, "n c *positions"]) -> Float[Tensor, "n c *positions"]:
    """Return targets that are probabilities of classes, as the cross-entropy needs them.

    Raises:
        InputRefused: they are negative or do not sum to 1 over axis 1.
    """
    sums = targets.sum(1)
    if targets.shape[1] < 2 or bool((targets < 0).any()) or not torch.allclose(sums, torch.ones_like(sums)):
        raise InputRefused(
            f"the cross-entropy needs labels, or probabilities that sum to 1 over at least two classes, got real targets "
            f"(n, {targets.shape[1]}) from {float(targets.min()):.4g} to {float(targets.max()):.4g}; use mse for them"
        )
    return targets


def require_count(n: int, available: int | None, what: str) -> None:
    """Refuse a number of examples that cannot be had.

    Raises:
        InputRefused: with the numbers that can.
    """
    if n < 1 or (available is not None and n > available):
        bounds = "at least 1" if available is None else f"between 1 and {available}"
        raise InputRefused(f"n must be {bounds}, got {n}; {what} have no other number of examples")


def labelled(
    points: ArrayLike, labels: ArrayLike, classes: int, dtype: torch.dtype, device: torch.device | str | None
) -> tuple[Float[Tensor, "n ..."], Float[Tensor, "n classes"]]:
    """Return points (n, …) in that precision and the one-hot rows of their labels, 0 to classes − 1."""
    like = torch.empty((), dtype=dtype, device=device or CPU)
    inputs, numbers = to_tensor(points, like), to_tensor(labels, like)
    return inputs, (numbers[:, None] == torch.arange(classes, dtype=dtype, device=like.device)).to(dtype)
