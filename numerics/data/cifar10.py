"""CIFAR-10 from a local copy: the python batches, or one .npz file."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from numerics.data.targets import labelled, require_count
from numerics.errors import InputRefused

if TYPE_CHECKING:
    from jaxtyping import Float
    from numpy.typing import NDArray
    from torch import Tensor

WANTED = (
    "unpack the python version of CIFAR-10 and name the folder with data_batch_1 to data_batch_5, or an .npz file with "
    "images (n, 32, 32, 3), (n, 3, 32, 32) or (n, 3072) and labels (n,)"
)
# A pickle may name any function to call. Only what arrays are rebuilt with is let through.
ALLOWED = {
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("_codecs", "encode"),
}


def cifar10(
    path: str | Path,
    n: int = 500,
    *,
    classes: int = 10,
    size: int = 32,
    dtype: torch.dtype = torch.float64,
    device: torch.device | str | None = None,
) -> tuple[Float[Tensor, "n 3 size size"], Float[Tensor, "n classes"]]:
    """The first n training images of the classes chosen, each colour standardised over them, and one-hot targets.

    Args:
        path: folder of the python batches, or .npz file.
        n: number of examples.
        classes: labels below this are kept, 2 to 10.
        size: of the images; below 32 pixels are averaged.
        dtype: floating dtype of both tensors.
        device: where they live; None is the CPU.

    Returns:
        Images and targets.

    Raises:
        InputRefused: if the copy is missing or not as described, or a setting is out of range.
    """
    if not 2 <= classes <= 10 or size < 1 or 32 % size:
        raise InputRefused(
            f"classes must be between 2 and 10 and size divide 32, got {classes} and {size}; try 10 and 32"
        )
    images, labels = _read(Path(path))
    chosen = labels < classes
    require_count(n, int(chosen.sum()), f"classes 0 to {classes - 1} of the copy in {path}")
    pixels = images[chosen][:n].reshape(n, 3, size, 32 // size, size, 32 // size).mean((3, 5)) / 255
    spread = pixels.std((0, 2, 3), keepdims=True)
    standard = (pixels - pixels.mean((0, 2, 3), keepdims=True)) / np.where(spread > 0, spread, 1)
    return labelled(standard, labels[chosen][:n], classes, dtype, device)


def _read(path: Path) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return images (N, 3, 32, 32) and labels (N,) of the training set.

    Raises:
        InputRefused: path holds none.
    """
    folder = path / "cifar-10-batches-py" if (path / "cifar-10-batches-py").is_dir() else path
    if folder.is_dir():
        batches = [_batch(file) for file in sorted(folder.glob("data_batch_*"))]
        if not batches:
            raise InputRefused(f"path must hold CIFAR-10, but {path} has no data_batch_1; {WANTED}")
        return np.concatenate([b[0] for b in batches]), np.concatenate([b[1] for b in batches])
    if not path.is_file():
        raise InputRefused(f"path must hold CIFAR-10, but {path} does not exist; {WANTED}")
    try:
        with np.load(path, allow_pickle=False) as file:
            return _arrays(path, {key: file[key] for key in file.files})
    except InputRefused:
        raise
    except (OSError, ValueError, EOFError):
        raise InputRefused(f"path must hold CIFAR-10, but {path} is no .npz file of arrays; {WANTED}") from None


class _ArraysOnly(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in ALLOWED:
            raise pickle.UnpicklingError(f"it calls {module}.{name}")
        return super().find_class(module, name)


def _batch(file: Path) -> tuple[NDArray[Any], NDArray[Any]]:
    try:
        with file.open("rb") as stream:
            batch = _ArraysOnly(stream, encoding="bytes").load()
        named = {key.decode() if isinstance(key, bytes) else key: value for key, value in batch.items()}
    except (OSError, pickle.UnpicklingError, EOFError, AttributeError, ValueError, ImportError) as error:
        raise InputRefused(
            f"{file} must be a python batch of CIFAR-10, but cannot be read ({error}); {WANTED}"
        ) from None
    return _arrays(file, named)


def _arrays(path: Path, named: dict[str, Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    images, labels = (
        next((named[key] for key in keys if key in named), None)
        for keys in (("images", "data", "x_train"), ("labels", "y_train"))
    )
    if images is None or labels is None:
        raise InputRefused(
            f"{path} must hold images and labels, got {', '.join(map(str, named)) or 'nothing'}; {WANTED}"
        )
    try:
        pixels, numbers = np.asarray_chkfinite(images, dtype=float), np.asarray_chkfinite(labels, dtype=int).reshape(-1)
    except (TypeError, ValueError) as error:
        raise InputRefused(f"images and labels of {path} must be finite numbers, but {error}; {WANTED}") from None
    if pixels.shape[1:] == (32, 32, 3):
        pixels = np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))  # one order of summation for all layouts
    if pixels.size != len(numbers) * 3072 or pixels.shape[1:] not in {(3072,), (3, 32, 32)}:
        raise InputRefused(
            f"{path} must hold as many images as labels, got shapes {np.shape(images)} and {np.shape(labels)}; {WANTED}"
        )
    if numbers.size and not 0 <= numbers.min() <= numbers.max() <= 9:
        raise InputRefused(f"labels of {path} must be from 0 to 9, got {numbers.min()} to {numbers.max()}; {WANTED}")
    return pixels.reshape(-1, 3, 32, 32), numbers
