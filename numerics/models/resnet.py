"""A residual network with group normalisation."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any, ClassVar, Self

import torch
from torch import nn

from numerics.boundary import CPU
from numerics.errors import InputRefused
from numerics.models.architecture import Architecture, Data, accept_data
from numerics.models.layers import activation_layer, seeded

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jaxtyping import Float
    from torch import Tensor


class ResidualBlock(nn.Module):
    """shortcut(x) + two 3×3 convolutions, each after normalisation and activation (pre-activation).

    With `halve` the first convolution has stride 2 and the shortcut averages 2×2 pixels; where the number of channels
    changes, the shortcut has a 1×1 convolution.
    """

    def __init__(
        self,
        c_in: int,
        c_out: int,
        groups: int,
        activation: str,
        *,
        halve: bool,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        super().__init__()
        place: dict[str, Any] = {"dtype": dtype, "device": device}

        def convolution(c: int, stride: int) -> list[nn.Module]:
            layer = nn.Conv2d(c, c_out, 3, stride, padding=1, bias=False, **place)
            return [nn.GroupNorm(groups, c, **place), activation_layer(activation), layer]

        self.residual = nn.Sequential(*convolution(c_in, 2 if halve else 1), *convolution(c_out, 1))
        shortcut: list[nn.Module] = [nn.AvgPool2d(2)] if halve else []
        shortcut += [nn.Conv2d(c_in, c_out, 1, bias=False, **place)] if c_in != c_out else []
        self.shortcut = nn.Sequential(*shortcut)

    def forward(self, x: Float[Tensor, "batch c_in s s"]) -> Float[Tensor, "batch c_out r r"]:
        """Return the block's output."""
        y: Tensor = self.shortcut(x) + self.residual(x)
        return y


class ResNet(Architecture):
    """A 3×3 convolution, residual blocks in stages that halve the image, average pooling and one linear layer.

    Group normalisation, because batch statistics have wrong third derivatives and tie the examples to one another.
    It has 2 + 2·blocks·stages layers with weights: 8 at the default.
    """

    takes: ClassVar[tuple[str, ...]] = ("images",)

    def __init__(
        self,
        channels: int = 1,
        size: int = 8,
        classes: int = 10,
        widths: Sequence[int] = (4, 6, 8),
        blocks: int = 1,
        groups: int = 2,
        activation: str = "gelu",
        *,
        seed: int = 0,
        dtype: torch.dtype = torch.float64,
        device: torch.device | str | None = None,
    ) -> None:
        """Build the layers under the seed, on the CPU, and move them to the device.

        Args:
            channels: of the input.
            size: height and width of the input; divisible by 2 once for every stage but the first.
            classes: number of outputs.
            widths: channels of each stage, divisible by groups.
            blocks: per stage.
            groups: of the normalisation.
            activation: a name in `layers.ACTIVATIONS`.
            seed: of the initialisation.
            dtype: of the parameters.
            device: None is the CPU.

        Raises:
            InputRefused: if the sizes do not fit one another.
        """
        super().__init__()
        if not widths or blocks < 1 or size % 2 ** (len(widths) - 1):
            raise InputRefused(
                f"widths must name a stage and blocks be positive, and size must be divisible by 2 for every stage but "
                f"the first, got widths {tuple(widths)}, blocks {blocks} and size {size}; try (4, 6, 8), 1 and 8"
            )
        if groups < 1 or any(width < 1 or width % groups for width in widths):
            raise InputRefused(f"groups must divide each of widths {tuple(widths)}, got {groups}; try 2 and (4, 6, 8)")
        place: dict[str, Any] = {"dtype": dtype, "device": CPU}
        with seeded(seed):
            layers: list[nn.Module] = [nn.Conv2d(channels, widths[0], 3, padding=1, bias=False, **place)]
            for stage, (c_in, c_out) in enumerate(pairwise((widths[0], *widths))):
                for block in range(blocks):
                    halve = stage > 0 and block == 0
                    c = c_out if block else c_in
                    layers.append(ResidualBlock(c, c_out, groups, activation, halve=halve, dtype=dtype, device=CPU))
            layers += [nn.GroupNorm(groups, widths[-1], **place), activation_layer(activation)]
            self.layers = nn.Sequential(*layers)
            self.readout = nn.Linear(widths[-1], classes, **place)
        self.to(device=device or CPU)

    def forward(self, x: Float[Tensor, "batch channels size size"]) -> Float[Tensor, "batch classes"]:
        """Return the outputs of a batch."""
        y: Tensor = self.readout(self.layers(x).mean((2, 3)))
        return y

    @classmethod
    def for_data(
        cls,
        data: Data,
        *,
        widths: Sequence[int] = (4, 6, 8),
        blocks: int = 1,
        groups: int = 2,
        activation: str = "gelu",
        seed: int = 0,
    ) -> Self:
        """A ResNet for these images.

        Args:
            data: (inputs, targets).
            widths: channels of each stage.
            blocks: residual blocks per stage.
            groups: of the normalisation.
            activation: smooth nonlinearity.
            seed: of the initialisation.

        Returns:
            The network, where the targets are.
        """
        inputs, targets = accept_data(cls, data)
        return cls(
            inputs.shape[1],
            inputs.shape[2],
            targets.shape[1],
            widths,
            blocks,
            groups,
            activation,
            seed=seed,
            dtype=targets.dtype,
            device=targets.device,
        )
