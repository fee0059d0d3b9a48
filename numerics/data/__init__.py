"""Small data sets that come with the dependencies."""

from numerics.data.digits import digits

__all__ = ["digits"]
