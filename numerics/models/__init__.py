"""Small networks whose third derivatives autograd gets right."""

from numerics.models.attention import attention
from numerics.models.cnn import CNN
from numerics.models.layers import LayerNorm, RMSNorm, seeded
from numerics.models.lstm import LSTM
from numerics.models.mamba import Mamba
from numerics.models.mlp import MLP
from numerics.models.resnet import ResNet
from numerics.models.safe import safe
from numerics.models.transformer import Transformer
from numerics.models.vit import ViT

__all__ = [
    "CNN",
    "LSTM",
    "MLP",
    "LayerNorm",
    "Mamba",
    "RMSNorm",
    "ResNet",
    "Transformer",
    "ViT",
    "attention",
    "safe",
    "seeded",
]
