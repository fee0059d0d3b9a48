"""The handwritten digits bundled with scikit-learn: 8×8 pixels, ten classes, 1797 rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch

from numerics.boundary import CPU, to_tensor
from numerics.data.targets import require_count
from numerics.errors import InputRefused

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

SHAPES = {"vectors": (64,), "images": (1, 8, 8), "series": (8, 8)}


def digits(
    n: int = 300,
    *,
    classes: int = 10,
    form: Literal["vectors", "images", "series"] = "vectors",
    dtype: torch.dtype = torch.float64,
    device: torch.device | str | None = None,
) -> tuple[Float[Tensor, "n ..."], Float[Tensor, "n classes"]]:
    """The first n rows of the classes chosen: pixels divided by 16, so in [0, 1], and one-hot targets.

    Args:
        n: number of examples, 1 to 1797 for all classes.
        classes: digits below this are kept, 2 to 10.
        form: vectors (n, 64), images (n, 1, 8, 8), or series of rows (n, 8, 8).
        dtype: floating dtype of both tensors.
        device: where they live; None is the CPU.

    Returns:
        Inputs and targets (n, classes).

    Raises:
        InputRefused: if n, classes or form is out of range.
    """
    from sklearn.datasets import load_digits  # costs a second, and only those who ask for the data should pay

    if not 2 <= classes <= 10 or form not in SHAPES:
        raise InputRefused(
            f"classes must be between 2 and 10 and form one of {', '.join(SHAPES)}, got {classes} and {form!r}; try 10 "
            f"and vectors"
        )
    pixels, labels = load_digits(return_X_y=True)
    pixels, labels = pixels[labels < classes], labels[labels < classes]
    require_count(n, len(labels), "the bundled digits")
    like = torch.empty((), dtype=dtype, device=device or CPU)
    inputs = to_tensor(pixels[:n] / 16.0, like).reshape(n, *SHAPES[form])
    targets = to_tensor(labels[:n, None] == range(classes), like)
    return inputs, targets
