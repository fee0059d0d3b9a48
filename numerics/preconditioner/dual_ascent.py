r"""Maximise the dual of (T14) on its spheres, by products HV only.

The fixed-point iteration of THEORY section 7 gets near from anywhere; a trust-region Newton method ends it.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from numerics.preconditioner.program import Certificate, Point, Program, certify, largest, residual, weights

# Steps of the fixed-point iteration: before Newton's method, cold and warm, and alone.
FIRST_STEPS, WARM_STEPS, MOST_STEPS = 10, 3, 5000
# Residual at which weak columns of V are dropped, and the relative singular value below which a column is weak.
LOOSE, WEAK = 1e-2, 0.05
ROUNDS, NEWTON_STEPS, CG_STEPS = 16, 60, 200
# Start of s where g = ε = 0.
NUDGE = 0.1


def ascend(program: Program, V: Tensor, limit: int, tol: float, warm: bool) -> Certificate:
    """Alternate Newton's method and the certificate, which asks for more columns or for more accuracy."""
    point = _iterate(program, V, WARM_STEPS if warm else FIRST_STEPS)
    if program.e == 0 and not bool(program.c.all()):
        # Where c = e = 0 nothing drives s away from 0, yet |V_i| < 1 is optimal if p_i = 0.
        point = program.point(torch.cat([point.Y[:, :1] + NUDGE * (program.c == 0)[:, None], point.Y[:, 1:]], 1))
    if not warm:
        point = _compress(program, _newton(program, point, LOOSE))
    level, lowest = tol, 50 * torch.finfo(V.dtype).eps
    best = Certificate(V[:, 0], V, math.inf, 0.0, 0.0, 0.0)
    for _ in range(ROUNDS):
        point = _newton(program, point, level)
        found = certify(program, program.stationary(point.G[:, 1:]), point.Y[:, 0], point.Y[:, 1:], tol)
        best = min(best, found, key=lambda c: c.gap)
        grow = found.excess > 30 * level and point.Y.shape[1] - 1 < limit
        if best.gap <= tol or (level <= lowest and not grow):
            break
        if grow:
            point = _grow(program, point, limit, tol)
        else:
            level = max(level / 100, lowest)
    return best


def iterate_alone(program: Program, V: Tensor, limit: int, tol: float, warm: bool) -> Certificate:
    point = _iterate(program, V, MOST_STEPS, tol)
    return certify(program, program.stationary(point.G[:, 1:]), point.Y[:, 0], point.Y[:, 1:], tol)


def _iterate(program: Program, V: Tensor, steps: int, level: float = 0.0) -> Point:
    """W = (HV + τpV)/(1 + τ), p from (T13), V = W/p; τ = 2 is doubled where the dual falls, for then it is too small."""
    tau, last = 2.0, -math.inf
    HV = program.H(V)
    p = program.stationary(HV)
    for _ in range(steps):
        W = (HV + tau * p[:, None] * V) / (1 + tau)
        p = program.stationary(W)
        # (s p)² = p² − |W|², by (T13) without a cancellation.
        s = (p * program.e + program.e * (p - program.e) + program.c).clamp_min(0).sqrt()
        point = program.point(torch.cat([s[:, None], W], 1))
        V, HV = point.Y[:, 1:], point.G[:, 1:]
        fell = point.value < last - 1e3 * torch.finfo(V.dtype).eps * abs(point.value)
        tau, last = (2 * tau if fell else tau), point.value
        if level and residual(program, point)[1] <= level:
            break
    return point


def _newton(program: Program, point: Point, level: float) -> Point:
    """Maximise the dual by a trust-region Newton method on the spheres until the residual is below the level."""
    radius = 0.0
    for _ in range(NEWTON_STEPS):
        R, size, mu, d = residual(program, point)
        whole = math.sqrt(float(d.sum()))
        radius = radius or whole / 4
        if size <= level or radius < torch.finfo(d.dtype).eps * whole:
            break
        forcing = max(min(0.1, math.sqrt(size)), 0.3 * level / size)
        U, gain, outside = _step(program, point, R, mu, d, radius, forcing)
        moved = program.point(point.Y + U)
        # Near the maximum the gain drowns in round-off; the same amount on both sides keeps the ratio at 1.
        noise = 1e3 * torch.finfo(d.dtype).eps * abs(point.value) + torch.finfo(d.dtype).tiny
        ratio = (moved.value - point.value + noise) / (gain + noise)
        radius = radius / 4 if ratio < 0.25 else min(2 * radius, 2 * whole) if ratio > 0.75 and outside else radius
        point = moved if ratio > 0.1 else point
    return point


def _step(
    program: Program, point: Point, R: Tensor, mu: Tensor, d: Tensor, radius: float, forcing: float
) -> tuple[Tensor, float, bool]:
    """Truncated conjugate gradients (Steihaug) for the Newton step, preconditioned by d: step, predicted gain, at the border."""
    Y = point.Y
    weight = torch.cat([mu - program.curvature(Y[:, 0])[:, None], mu.expand(-1, Y.shape[1] - 1)], 1)

    def curvature(U: Tensor) -> Tensor:
        B = weight * U
        B[:, 1:] -= program.H(U[:, 1:])
        return B - (Y * B).sum(1, keepdim=True) * Y

    U, BU, r = torch.zeros_like(R), torch.zeros_like(R), R
    z = r / d
    direction, rz = z, float((r * z).sum())
    goal, uu, ud, dd = forcing**2 * rz, 0.0, 0.0, rz
    outside = False
    for _ in range(CG_STEPS):
        image = curvature(direction)
        bend = float((direction * image).sum())
        alpha = rz / bend if bend > 0 else math.inf
        outside = not uu + 2 * alpha * ud + alpha**2 * dd < radius**2
        if outside:
            alpha = (-ud + math.sqrt(ud**2 + dd * max(radius**2 - uu, 0.0))) / dd
        U, BU, r = U + alpha * direction, BU + alpha * image, r - alpha * image
        z = r / d
        previous, rz = rz, float((r * z).sum())
        if outside or rz <= goal:
            break
        uu, ud = uu + 2 * alpha * ud + alpha**2 * dd, rz / previous * (ud + alpha * dd)
        direction, dd = z + rz / previous * direction, rz + (rz / previous) ** 2 * dd
    return U, float((R * U).sum()) - float((U * BU).sum()) / 2, outside


def _compress(program: Program, point: Point) -> Point:
    """Rotate V to its principal columns and drop the weak ones: they slow Newton's method down, and can come back."""
    V = point.Y[:, 1:]
    p = program.stationary(point.G[:, 1:])[:, None]
    values, Q = torch.linalg.eigh(V.T @ (p * V))
    keep = values > WEAK**2 * values[-1]
    keep[-1] = True
    return program.point(torch.cat([point.Y[:, :1], V @ Q[:, keep]], 1))


def _grow(program: Program, point: Point, limit: int, tol: float) -> Point:
    """Append the most violated directions to V, as far as that raises the dual."""
    p, columns = program.stationary(point.G[:, 1:]), point.Y.shape[1] - 1
    d = weights(p)
    values, Q, _ = largest(program, p, d, min(limit - columns, 1 + columns // 2), tol)
    new = (Q / d.sqrt()[:, None])[:, values > values.max() / 10]
    new = new / new.norm(dim=1).max()
    for _ in range(20):
        moved = program.point(torch.cat([point.Y, new], 1))
        if moved.value > point.value:
            return moved
        new = new / 2
    return moved
