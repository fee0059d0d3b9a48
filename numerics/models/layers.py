"""Layers that replace those of torch whose third derivatives are wrong, and the seeded construction of networks."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import nn

from numerics.errors import InputRefused

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from jaxtyping import Float
    from torch import Tensor

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "gelu": nn.GELU,
    "mish": nn.Mish,
    "sigmoid": nn.Sigmoid,
    "silu": nn.SiLU,
    "softplus": nn.Softplus,
    "tanh": nn.Tanh,
}


def activation_layer(name: str) -> nn.Module:
    """Return the smooth activation of that name.

    Raises:
        InputRefused: for a name that is unknown or not three times differentiable.
    """
    if name not in ACTIVATIONS:
        raise InputRefused(
            f"activation must be one of {', '.join(ACTIVATIONS)} (smooth, as third derivatives are needed), got "
            f"{name!r}; use gelu in place of relu or elu"
        )
    return ACTIVATIONS[name]()


def build_seeded(make: Callable[[], Sequence[nn.Module]], seed: int) -> nn.Sequential:
    """Return layers with torch's default initialisation under this seed; the global generator is left as it was."""
    with seeded(seed):
        return nn.Sequential(*make())


@contextmanager
def seeded(seed: int) -> Generator[None, None, None]:
    """Let torch draw under this seed on the CPU; the global generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


class LayerNorm(nn.Module):
    """y = weight · (x − mean)/√(var + eps) + bias over the last axes, in plain operations.

    `torch.nn.LayerNorm` treats its saved statistics as constants in the third derivative; here autograd sees them.
    Arguments and parameter names are those of `torch.nn.LayerNorm`.
    """

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float = 1e-5,
        *,
        elementwise_affine: bool = True,
        bias: bool = True,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        """Take the arguments of `torch.nn.LayerNorm`."""
        super().__init__()
        shape = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
        self.normalized_shape, self.eps = shape, eps
        weight = nn.Parameter(torch.ones(shape, dtype=dtype, device=device)) if elementwise_affine else None
        offset = nn.Parameter(torch.zeros(shape, dtype=dtype, device=device)) if elementwise_affine and bias else None
        self.register_parameter("weight", weight)
        self.register_parameter("bias", offset)

    def forward(self, x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Return the normalised x."""
        axes = tuple(range(-len(self.normalized_shape), 0))
        centred = x - x.mean(axes, keepdim=True)
        y = centred * torch.rsqrt(centred.square().mean(axes, keepdim=True) + self.eps)
        if isinstance(self.weight, torch.Tensor):
            y = y * self.weight
        return y + self.bias if isinstance(self.bias, torch.Tensor) else y


class RMSNorm(nn.Module):
    """y = weight · x/√(mean x² + eps) over the last axis, in plain operations."""

    def __init__(
        self, width: int, eps: float = 1e-5, *, dtype: torch.dtype | None = None, device: torch.device | None = None
    ) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(width, dtype=dtype, device=device))

    def forward(self, x: Float[Tensor, "*batch width"]) -> Float[Tensor, "*batch width"]:
        """Return the normalised x."""
        return self.weight * x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.eps)
