"""The built-in losses, and the targets that each of them accepts."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional

from numerics.errors import InputRefused

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

Criterion = Callable[[Any, Any], torch.Tensor]
IGNORED = -100  # the label that torch's cross-entropy leaves out


def half_squared_error(outputs: Float[Tensor, "batch ..."], targets: Float[Tensor, "batch ..."]) -> Float[Tensor, ""]:
    """Return ½‖f − y‖², summed over outputs, averaged over examples (`F.mse_loss` fails in forward mode)."""
    return (outputs - targets).square().sum() / (2 * outputs.shape[0])


def logistic(outputs: Float[Tensor, "batch ..."], targets: Float[Tensor, "batch ..."]) -> Float[Tensor, ""]:
    """Return log(1 + e^(−y f)), y = ±1, averaged: the cross-entropy of two classes with f the difference of their logits."""
    return functional.softplus(-targets * outputs).mean()


CRITERIA: dict[str, Criterion] = {
    "mse": half_squared_error,
    "cross_entropy": functional.cross_entropy,
    "binary_mse": half_squared_error,
    "binary_cross_entropy": logistic,
}


def refuse_targets(criterion: Criterion, outputs: Any, targets: Any) -> None:
    """Refuse targets that a built-in loss would misread; other losses know their own.

    Raises:
        InputRefused: for another shape than the outputs' (which would broadcast), or labels out of range.
    """
    if not any(criterion is own for own in CRITERIA.values()):
        return
    for name, value in (("the module must return", outputs), ("targets must be", targets)):
        if not isinstance(value, torch.Tensor):
            raise InputRefused(
                f"{name} a tensor for a built-in loss, got {type(value).__name__}; pass a function "
                f"(outputs, targets) -> scalar as criterion"
            )
    if criterion is functional.cross_entropy and not targets.is_floating_point():
        _refuse_labels(outputs, targets)
        return
    if outputs.shape != targets.shape:
        raise InputRefused(
            f"targets must have the shape of the outputs, {tuple(outputs.shape)}, got {tuple(targets.shape)}"
            + ("; or be integer labels" if criterion is functional.cross_entropy else "; use one-hot rows for classes")
        )
    if criterion is logistic and not bool((targets.abs() == 1).all()):
        raise InputRefused(
            f"targets of the binary cross-entropy must be -1 or 1, got values from {float(targets.min()):.4g} to "
            f"{float(targets.max()):.4g}; use 2 * labels - 1"
        )


def _refuse_labels(outputs: Tensor, targets: Tensor) -> None:
    expected = (outputs.shape[0], *outputs.shape[2:])
    if outputs.ndim < 2 or tuple(targets.shape) != expected:
        raise InputRefused(
            f"integer targets must have shape {expected} for outputs (n, classes, …) of shape {tuple(outputs.shape)}, "
            f"got {tuple(targets.shape)}; reshape them"
        )
    if targets.dtype != torch.int64:
        raise InputRefused(f"integer targets must be int64, got {targets.dtype}; use targets.long()")
    kept, classes = targets[targets != IGNORED], outputs.shape[1]
    if kept.numel() and not 0 <= int(kept.min()) <= int(kept.max()) < classes:
        raise InputRefused(
            f"labels must be from 0 to {classes - 1} for {classes} outputs, got {int(kept.min())} to "
            f"{int(kept.max())}; renumber them or add outputs"
        )


def refuse_non_finite(name: str, value: Any) -> None:
    """Refuse floating data with nan or inf in them.

    Raises:
        InputRefused: with their number.
    """
    if isinstance(value, torch.Tensor) and value.is_floating_point():
        bad = int((~torch.isfinite(value)).sum())
        if bad:
            raise InputRefused(
                f"{name} must be finite, got {bad} nan or inf entries of {value.numel()}; remove those examples"
            )
