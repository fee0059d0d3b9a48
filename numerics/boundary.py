"""The only place where torch tensors and numpy arrays meet."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray
    from torch import Tensor

CPU = torch.device("cpu")


def to_numpy(tensor: Tensor) -> NDArray[Any]:
    """Return a copy of a tensor of any device as a numpy array of the same shape and precision, without its graph."""
    return np.array(tensor.detach().cpu().numpy())


def to_tensor(array: ArrayLike, like: Tensor) -> Tensor:
    """Return a copy of an array as a tensor with the device and dtype of `like`."""
    return torch.tensor(np.asarray(array), dtype=like.dtype, device=like.device)


def from_array(array: NDArray[Any]) -> Tensor:
    """Return a copy of an array as a CPU tensor of its own precision; unsigned integers become int64."""
    return torch.tensor(array.astype(np.int64) if array.dtype.kind == "u" else array, device=CPU)


def seeded_generator(seed: int) -> torch.Generator:
    """Return a new CPU generator: the same numbers on every device, and no global state touched."""
    return torch.Generator(device=CPU).manual_seed(seed)


def normal(shape: tuple[int, ...], generator: torch.Generator, like: Tensor) -> Tensor:
    """Return standard normal numbers drawn where the generator lives, with the device and dtype of `like`."""
    drawn = torch.randn(shape, generator=generator, device=generator.device, dtype=like.dtype)
    return drawn.to(like.device)
