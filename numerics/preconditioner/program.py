r"""The program (T14) in its own units, its Lagrangian dual, and the certificate that a solution carries.

With c = g²/η², e = ε/η and H/λ* in place of H, the program and its Lagrangian dual, both divided by η², are

    min_p  ∑ φ_i(p_i)  subject to  H ⪯ diag p,        φ_i(p) = p − 2e ln(p/e) + (c_i − e²)/p  on  p ≥ e,
    max_V  ⟨V, HV⟩ + ∑ min_p [ φ_i(p) − |V_i|²p ],     s_i² = 1 − |V_i|² ≥ 0,  V of shape (n, r).

The inner minimum is at p = q/s² with q = e + √(e² + s²(c − e²)), and VVᵀ is the multiplier. Rows Y_i = (s_i, V_i) are points of
unit spheres.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from scipy.sparse.linalg import ArpackError, LinearOperator, eigsh
from torch import Tensor

from numerics.boundary import normal, seeded_generator, to_numpy, to_tensor
from numerics.errors import InputRefused

Product = Callable[[Tensor], Tensor]

# Up to this n a matrix's largest eigenvalue is computed directly.
DENSE = 1000
# Smallest weight of a coordinate in the certificate, relative to the mean of p.
FLOOR = 1e-6


class Point(NamedTuple):
    """Rows on spheres Y (n, 1 + r), half the dual's gradient G = (q/s, HV), half the dual's value."""

    Y: Tensor
    G: Tensor
    value: float


class Certificate(NamedTuple):
    """A feasible p, V, and the fields of the solution in the program's own units."""

    p: Tensor
    V: Tensor
    gap: float
    primal: float
    dual: float
    excess: float


class Program:
    """The program in its own units; counts products and knows every formula that depends on φ."""

    def __init__(self, product: Product, matrix: Tensor | None, c: Tensor, e: float, noise: float) -> None:
        self.matrix, self.c, self.e, self.noise, self.count = matrix, c, e, noise, 0
        self._product = product

    def H(self, V: Tensor) -> Tensor:
        """HV, counted."""
        self.count += V.shape[1]
        return self._product(V) if self.matrix is None else self.matrix @ V

    def _root(self, s: Tensor) -> Tensor:
        # √(e² + s²(c − e²)) = q − e, and s²c + (1 − s²)e² cannot be negative.
        return (self.e**2 * (1 - s * s).clamp_min(0) + s * s * self.c).sqrt()

    def dual(self, s: Tensor) -> float:
        """Half of ∑ min_p [φ(p) − (1 − s²)p] = 2q − 2e − 2e ln(p/e)."""
        q = self.e + self._root(s)
        return float(q.sum() if self.e == 0 else (q - self.e - self.e * torch.log(q / (s * s * self.e))).sum())

    def slope(self, s: Tensor) -> Tensor:
        """Derivative of half the inner minimum: s p = q/s."""
        return self.c.sqrt() if self.e == 0 else (self.e + self._root(s)) / s

    def curvature(self, s: Tensor) -> Tensor:
        """Its derivative, −e q/(s²√(e² + s²(c − e²)))."""
        root = self._root(s)
        return torch.zeros_like(s) if self.e == 0 else -self.e * (self.e + root) / (root * s * s)

    def primal(self, p: Tensor) -> tuple[float, float]:
        """∑φ(p), and ∑(p + c/p) to measure it by, or the round-off of H where that is larger."""
        size = p + torch.where(self.c == 0, 0.0, self.c / p)
        value = size - 2 * self.e * torch.log(p / self.e) - self.e**2 / p if self.e else size
        return float(value.sum()), max(float(size.sum()), self.noise, torch.finfo(p.dtype).tiny)

    def stationary(self, W: Tensor) -> Tensor:
        """Solve (T13), (p − e)² = c + p²|V_i|², for p given W = pV."""
        return self.e + (self.c + W.square().sum(1)).sqrt()

    def point(self, Y: Tensor) -> Point:
        """Rows normalised to length 1 with s ≥ 0, and what is known there."""
        Y = Y / Y.norm(dim=1, keepdim=True)
        s, V = Y[:, 0].abs().clamp_min(torch.finfo(Y.dtype).tiny), Y[:, 1:]
        HV = self.H(V)
        value = float((V * HV).sum()) / 2 + self.dual(s)
        return Point(torch.cat([s[:, None], V], 1), torch.cat([self.slope(s)[:, None], HV], 1), value)


def residual(program: Program, point: Point) -> tuple[Tensor, float, Tensor, Tensor]:
    """Gradient on the spheres R = G − μY, its relative size, μ and the weights d ≈ p in which it is measured."""
    mu = (point.Y * point.G).sum(1, keepdim=True)
    R = point.G - mu * point.Y
    d = weights(program.stationary(point.G[:, 1:]))[:, None]
    return R, math.sqrt(float((R.square() / d).sum() / d.sum())), mu, d


def weights(p: Tensor) -> Tensor:
    return p.clamp_min(FLOOR * float(p.mean())).clamp_min(torch.finfo(p.dtype).tiny)


def certify(program: Program, p: Tensor, s: Tensor, V: Tensor, tol: float) -> Certificate:
    """Make p feasible by adding a multiple of about itself; the dual's value at V bounds the optimum from below."""
    d = weights(p)
    values, _, error = largest(program, p, d, 1, tol)
    excess = float(values.max()) + error
    feasible = p + max(excess, 0.0) * d
    primal, size = program.primal(feasible)
    dual = float((V * program.H(V)).sum()) + 2 * program.dual(s)
    gap = abs(primal - dual) / size if math.isfinite(excess) else math.inf
    return Certificate(feasible, V, gap, primal, dual, excess)


def largest(program: Program, p: Tensor, d: Tensor, k: int, tol: float) -> tuple[Tensor, Tensor, float]:
    """Largest eigenpairs of D^-½(H − P)D^-½ and a bound of their error; H ⪯ P + μD iff none exceeds μ."""
    root, n = d.sqrt()[:, None], len(p)
    if program.matrix is not None and n <= DENSE:
        A = program.matrix / (root * root.T)
        A.diagonal().sub_(p / d)
        values, Q = torch.linalg.eigh(A)
        return values[-k:], Q[:, -k:], 4 * math.sqrt(n) * torch.finfo(p.dtype).eps * float(values.abs().max())
    return _arpack(program, p, root, k, tol)


def _arpack(program: Program, p: Tensor, root: Tensor, k: int, tol: float) -> tuple[Tensor, Tensor, float]:
    n, ratio = len(p), p[:, None] / root.square()

    def shifted(q: Tensor) -> Tensor:
        # The identity is added because ARPACK's tolerance is relative to the eigenvalue, which is about 0 without it.
        return program.H(q / root) / root - ratio * q + q

    operator = LinearOperator(
        (n, n), lambda x: to_numpy(shifted(to_tensor(x.reshape(n, 1), p)))[:, 0], dtype=to_numpy(p).dtype
    )
    v0 = to_numpy(normal((n,), seeded_generator(2), p))
    try:
        values, vectors = eigsh(operator, k=min(k, n - 1), which="LA", tol=tol / 5, v0=v0, maxiter=200)
    except ArpackError:
        return p.new_zeros(1), torch.zeros_like(root), math.inf
    Q = to_tensor(vectors, p)
    Q = Q / Q.norm(dim=0)
    theta = to_tensor(values, p)
    return theta - 1, Q, float((shifted(Q) - theta * Q).norm(dim=0).max())


def refuse(bad: bool, sentence: str) -> None:
    if bad:
        raise InputRefused(sentence)
