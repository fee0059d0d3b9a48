"""Small networks whose third derivatives autograd gets right."""

from numerics.models.cnn import CNN
from numerics.models.layers import LayerNorm
from numerics.models.mlp import MLP

__all__ = ["CNN", "MLP", "LayerNorm"]
