"""Data sets that come with the dependencies, are synthesised, or are read from a user's files."""

from numerics.data.arrays import arrays
from numerics.data.characters import characters
from numerics.data.cifar10 import cifar10
from numerics.data.circles import circles
from numerics.data.classification import classification
from numerics.data.copying import copying
from numerics.data.digits import digits
from numerics.data.mnist1d import mnist1d
from numerics.data.moons import moons
from numerics.data.sorting import sorting
from numerics.data.targets import binary, distributions, one_hot

__all__ = [
    "arrays",
    "binary",
    "characters",
    "cifar10",
    "circles",
    "classification",
    "copying",
    "digits",
    "distributions",
    "mnist1d",
    "moons",
    "one_hot",
    "sorting",
]
