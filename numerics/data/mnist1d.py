"""MNIST-1D, synthesised by the package of that name from its ten templates; nothing is fetched."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
import torch

from numerics.data.targets import labelled, require_count
from numerics.errors import InputRefused

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

SHAPES = {"vectors": (40,), "series": (40, 1)}


def mnist1d(
    n: int = 300,
    *,
    form: Literal["vectors", "series"] = "vectors",
    seed: int = 42,
    dtype: torch.dtype = torch.float64,
    device: torch.device | str | None = None,
) -> tuple[Float[Tensor, "n ..."], Float[Tensor, "n 10"]]:
    """Ten one-dimensional digits, shifted, scaled, sheared and with noise, standardised over the data set.

    Args:
        n: number of examples; as many of each digit as divide evenly.
        form: vectors (n, 40) or series (n, 40, 1).
        seed: of the transformations; 42 is the package's.
        dtype: floating dtype of both tensors.
        device: where they live; None is the CPU.

    Returns:
        Inputs and one-hot targets.

    Raises:
        InputRefused: if the package is missing, or a setting is out of range.
    """
    try:
        from mnist1d.data import get_dataset_args, make_dataset
    except ImportError:
        raise InputRefused(
            'mnist1d needs the package of that name, which is not installed; use pip install "central-flow-workbench[mnist1d]"'
        ) from None
    require_count(n, None, "synthesised digits")
    if form not in SHAPES:
        raise InputRefused(f"form must be one of {', '.join(SHAPES)}, got {form!r}; try vectors")
    settings = get_dataset_args()
    settings.num_samples, settings.train_split, settings.seed = 10 * -(-n // 10), 1.0, seed
    state = np.random.get_state()
    try:
        made = make_dataset(settings)  # seeds numpy's global generator
    finally:
        np.random.set_state(state)
    inputs, targets = labelled(made["x"][:n], made["y"][:n], 10, dtype, device)
    return inputs.reshape(n, *SHAPES[form]), targets
