"""A vision transformer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Self

import torch
from torch import nn

from numerics.boundary import CPU
from numerics.errors import InputRefused
from numerics.models.architecture import Architecture, Data, accept_data
from numerics.models.attention import AttentionBlock
from numerics.models.layers import LayerNorm, seeded

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


class ViT(Architecture):
    """Square patches, learned positions, pre-norm attention blocks, the mean over patches and a linear readout."""

    takes: ClassVar[tuple[str, ...]] = ("images",)

    def __init__(
        self,
        channels: int = 1,
        size: int = 8,
        classes: int = 10,
        patch: int = 2,
        width: int = 16,
        heads: int = 2,
        depth: int = 2,
        activation: str = "gelu",
        *,
        seed: int = 0,
        dtype: torch.dtype = torch.float64,
        device: torch.device | str | None = None,
    ) -> None:
        """Build the layers under the seed, on the CPU, and move them to the device.

        Args:
            channels: of the input.
            size: height and width of the input.
            classes: number of outputs.
            patch: height and width of a patch; must divide size.
            width: of the hidden vectors.
            heads: of the attention; must divide width.
            depth: number of blocks.
            activation: a name in `layers.ACTIVATIONS`.
            seed: of the initialisation.
            dtype: of the parameters.
            device: None is the CPU.

        Raises:
            InputRefused: if the sizes do not fit one another.
        """
        super().__init__()
        if patch < 1 or size % patch or depth < 1:
            raise InputRefused(
                f"patch must divide size and depth be positive, got patch {patch}, size {size} and depth {depth}; try "
                f"2, 8 and 2"
            )
        place: dict[str, Any] = {"dtype": dtype, "device": CPU}
        with seeded(seed):
            self.read = nn.Conv2d(channels, width, patch, stride=patch, **place)
            self.places = nn.Parameter(0.02 * torch.randn((size // patch) ** 2, width, dtype=dtype, device=CPU))
            blocks = (
                AttentionBlock(width, heads, activation, causal=False, dtype=dtype, device=CPU) for _ in range(depth)
            )
            self.blocks = nn.Sequential(*blocks, LayerNorm(width, dtype=dtype, device=CPU))
            self.readout = nn.Linear(width, classes, **place)
        self.to(device=device or CPU)

    def forward(self, x: Float[Tensor, "batch channels size size"]) -> Float[Tensor, "batch classes"]:
        """Return the outputs of a batch."""
        patches = self.read(x).flatten(2).transpose(1, 2)
        y: Tensor = self.readout(self.blocks(patches + self.places).mean(1))
        return y

    @classmethod
    def for_data(
        cls,
        data: Data,
        *,
        patch: int = 2,
        width: int = 16,
        heads: int = 2,
        depth: int = 2,
        activation: str = "gelu",
        seed: int = 0,
    ) -> Self:
        """A ViT for these images.

        Args:
            data: (inputs, targets).
            patch: height and width of a patch; must divide the image's.
            width: of the hidden vectors.
            heads: of the attention; must divide width.
            depth: number of blocks.
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
            patch,
            width,
            heads,
            depth,
            activation,
            seed=seed,
            dtype=targets.dtype,
            device=targets.device,
        )
