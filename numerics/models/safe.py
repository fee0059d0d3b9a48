"""Exchange torch layers with wrong or missing higher derivatives for equal functions with right ones."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from numerics.models.layers import LayerNorm


class MultiheadAttention(nn.MultiheadAttention):
    """`torch.nn.MultiheadAttention` that always takes the way by which torch computes the attention weights.

    That way consists of plain operations; the fused kernel that torch prefers has no second derivative.
    """

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        *args: Any,
        **kwargs: Any,
    ) -> tuple[Tensor, Tensor | None]:
        """Take and return what the original does."""
        y, weights = super().forward(query, key, value, key_padding_mask, True, *args, **kwargs)
        return y, weights if need_weights else None


_EQUALS: dict[type[nn.Module], type[nn.Module]] = {
    nn.LayerNorm: LayerNorm,
    nn.MultiheadAttention: MultiheadAttention,
}


def safe(module: nn.Module) -> nn.Module:
    """Give every LayerNorm and MultiheadAttention in a module the forward pass of an equal layer in plain operations.

    The layers are changed in place: names, parameters and references to them stay. Subclasses with a forward pass of their own
    are left alone, and so is attention with add_bias_kv or add_zero_attn, whose causal form torch itself computes differently
    with and without attention weights. `scaled_dot_product_attention` needs no exchange under `Problem.from_module`, which chooses its plain
    kernel; elsewhere use `numerics.models.attention`.

    Args:
        module: any module, also one of those layers.

    Returns:
        The same module.
    """
    for layer in module.modules():
        if type(layer) in _EQUALS and not _ambiguous(layer):
            # Both classes keep the same attributes, so that only the methods change.
            layer.__class__ = _EQUALS[type(layer)]
    return module


def _ambiguous(layer: nn.Module) -> bool:
    return isinstance(layer, nn.MultiheadAttention) and (layer.bias_k is not None or layer.add_zero_attn)
