"""A user's own arrays, from an .npz or .pt file."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from numerics.boundary import CPU, from_array
from numerics.data.targets import one_hot, require_count
from numerics.errors import InputRefused

if TYPE_CHECKING:
    from torch import Tensor


def arrays(
    path: str | Path,
    n: int | None = None,
    *,
    inputs: str = "inputs",
    targets: str = "targets",
    dtype: torch.dtype = torch.float64,
    device: torch.device | str | None = None,
) -> tuple[Tensor, Tensor]:
    """The first n rows of two arrays: real inputs or integer tokens (n, T); real targets or integer labels.

    Labels (n,) or (n, positions) become one-hot targets, with as many classes as the greatest label of the file needs.

    Args:
        path: .npz file, or .pt file of a dict or a pair of tensors.
        n: number of examples; all when left out.
        inputs: name of the inputs in the file.
        targets: name of the targets in the file.
        dtype: floating dtype of what is real.
        device: where they live; None is the CPU.

    Returns:
        Inputs and targets.

    Raises:
        InputRefused: if the file is not as described.
    """
    file = Path(path)
    named = _read(file, (inputs, targets))
    for key in (inputs, targets):
        if not isinstance(named.get(key), torch.Tensor):
            raise InputRefused(
                f"{file} must hold arrays named {inputs!r} and {targets!r}, got {', '.join(map(repr, named)) or 'none'};"
                f" rename them or say which they are"
            )
    X, Y = named[inputs], named[targets]
    if X.ndim < 2 or Y.ndim < 1 or len(X) != len(Y):
        raise InputRefused(
            f"inputs must have shape (n, …) and targets (n,) or (n, …), one row per example, got {tuple(X.shape)} and "
            f"{tuple(Y.shape)}; reshape them"
        )
    require_count(len(X) if n is None else n, len(X), f"the arrays of {file}")
    place = device or CPU
    return _real(file, "inputs", X, dtype)[:n].to(place), _targets(file, Y, dtype)[:n].to(place)


def _read(file: Path, names: tuple[str, str]) -> dict[str, Any]:
    wanted = "an .npz file of arrays, or a .pt file of a dict or a pair of tensors"
    try:
        if file.suffix == ".pt":
            content = torch.load(file, map_location=CPU, weights_only=True)
            found = dict(zip(names, content, strict=False)) if isinstance(content, tuple | list) else content
            return dict(found)
        with np.load(file, allow_pickle=False) as npz:
            return {key: from_array(npz[key]) for key in npz.files}
    except FileNotFoundError:
        raise InputRefused(f"path must be {wanted}, and {file} does not exist; name another") from None
    except (OSError, ValueError, TypeError, AttributeError, RuntimeError, EOFError, pickle.UnpicklingError):
        raise InputRefused(
            f"path must be {wanted}, and {file} is none; save it with numpy.savez or torch.save"
        ) from None


def _real(file: Path, name: str, values: Tensor, dtype: torch.dtype) -> Tensor:
    """Return floats in that precision and integers of two axes as tokens.

    Raises:
        InputRefused: for values that are neither.
    """
    if values.is_floating_point():
        bad = int((~torch.isfinite(values)).sum())
        if bad:
            raise InputRefused(
                f"{name} of {file} must be finite, got {bad} nan or inf entries of {values.numel()}; remove those rows"
            )
        return values.to(dtype)
    if values.is_complex() or values.dtype == torch.bool or values.ndim != 2 or int(values.min()) < 0:
        raise InputRefused(
            f"{name} of {file} must be floats, or non-negative integer tokens (n, T), got {values.dtype} of shape "
            f"{tuple(values.shape)}; convert them to floats"
        )
    return values.long()


def _targets(file: Path, values: Tensor, dtype: torch.dtype) -> Tensor:
    if values.is_floating_point():
        real = _real(file, "targets", values, dtype)
        return real if real.ndim > 1 else real[:, None]
    if values.is_complex() or values.dtype == torch.bool or values.ndim > 2 or int(values.min()) < 0:
        raise InputRefused(
            f"targets of {file} must be floats, or labels from 0 up of shape (n,) or (n, positions), got {values.dtype} "
            f"of shape {tuple(values.shape)} from {values.min()} on; renumber them"
        )
    return one_hot(values.long(), int(values.max()) + 1, dtype)
