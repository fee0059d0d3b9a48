r"""Matrices over all parameters: the operations that emitted source uses, and products with P where P is a number, a diagonal or a matrix.

Vectors live on the last axis and matrices on the last two; leading axes broadcast.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


class _Root:
    """√V through the eigenvectors of V, kept for the last V: one step asks for the same root several times.

    Eigenvalues of V within round-off of 0, n·eps·‖V‖, are 0: their roots would be noise of size √eps.
    """

    def __init__(self) -> None:
        self._last: tuple[Tensor, Tensor, Tensor] | None = None

    def __call__(self, V: Tensor) -> tuple[Tensor, Tensor]:
        """Eigenvalues of √V, (n,), and eigenvectors as columns, (n, n)."""
        if self._last is None or self._last[0] is not V:
            values, Q = torch.linalg.eigh(V)
            self._last = V, torch.where(values > _round_off(values), values, 0.0).sqrt(), Q
        return self._last[1:]


def matrix_operations(n: int, like: Tensor) -> dict[str, Callable[..., Any]]:
    """The operations on matrices for n parameters, with the device and dtype of ``like``."""
    root = _Root()

    def matrix_sqrt(V: Tensor) -> Tensor:
        values, Q = root(V)
        return (Q * values) @ Q.T

    def sqrt_rate(V: Tensor, D: Tensor) -> Tensor:
        r"""Solve √V L + L √V = D; where V is singular L is infinite, and the root of V's round-off stands for the sum of two roots."""
        values, Q = root(V)
        sums = (values[:, None] + values).clamp_min(float(_round_off(values.square()).sqrt()))
        rotated = Q.T @ D @ Q
        return Q @ torch.where(rotated == 0, rotated, rotated / sums) @ Q.T

    return {
        "identity": lambda: torch.eye(n, dtype=like.dtype, device=like.device),
        "outer": outer,
        "matrix_sqrt": matrix_sqrt,
        "sqrt_rate": sqrt_rate,
        "apply": lambda M, x: (M @ x[..., None])[..., 0],
        "solve": solve,
    }


def _round_off(values: Tensor) -> Tensor:
    """What rounding may have made of an eigenvalue 0, from all eigenvalues in ascending order."""
    return len(values) * torch.finfo(values.dtype).eps * values[-1]


def outer(a: Tensor, b: Tensor) -> Tensor:
    """½(abᵀ + baᵀ)."""
    product = a[..., :, None] * b[..., None, :]
    return (product + product.mT) / 2


def solve(M: Tensor, x: Tensor) -> Tensor:
    """M⁻¹x for a symmetric positive definite M."""
    columns = x.reshape(-1, x.shape[-1]).T
    solution: Tensor = torch.cholesky_solve(columns, torch.linalg.cholesky(M)).T.reshape(x.shape)
    return solution


def times(P: Tensor, U: Tensor) -> Tensor:
    """PU for columns U (n, k) and P a number, a diagonal (n,) or a symmetric matrix (n, n)."""
    product: Tensor = P @ U if P.dim() == 2 else (P * U.T).T
    return product


class Metric:
    """The coordinates q = P^½u, in which the P-metric is Euclidean; where a diagonal P is 0 so is q."""

    def __init__(self, P: Tensor, n: int) -> None:
        self._matrix = P.dim() == 2
        if self._matrix:
            values, Q = torch.linalg.eigh(P)
            root = values.clamp_min(torch.finfo(P.dtype).tiny).sqrt()
            self._root, self._inverse = (Q * root) @ Q.T, (Q / root) @ Q.T
        else:
            self._root = P.expand(n).sqrt()[:, None]
            self._inverse = torch.where(self._root > 0, 1 / self._root, 0.0)

    def up(self, U: Tensor) -> Tensor:
        """P^½U."""
        q: Tensor = self._root @ U if self._matrix else self._root * U
        return q

    def down(self, Q: Tensor) -> Tensor:
        """P^-½Q."""
        u: Tensor = self._inverse @ Q if self._matrix else self._inverse * Q
        return u

    def seen(self, Q: Tensor) -> Tensor:
        """Q without the coordinates in which P is 0."""
        kept: Tensor = Q if self._matrix else Q * (self._inverse > 0)
        return kept

    def empty(self) -> Tensor:
        """No column, (n, 0)."""
        none: Tensor = self._root.new_zeros(self._root.shape[0], 0)
        return none
