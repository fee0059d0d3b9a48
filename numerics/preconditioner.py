r"""The preconditioner at which the accumulators settle (THEORY section 7): (T14) with a rigorous duality gap.

With c = g²/η², e = ε/η and H/λ* in place of H, the program and its Lagrangian dual, both divided by η², are

    min_p  ∑ φ_i(p_i)  subject to  H ⪯ diag p,        φ_i(p) = p − 2e ln(p/e) + (c_i − e²)/p  on  p ≥ e,
    max_V  ⟨V, HV⟩ + ∑ min_p [ φ_i(p) − |V_i|²p ],     s_i² = 1 − |V_i|² ≥ 0,  V of shape (n, r).

The inner minimum is at p = q/s² with q = e + √(e² + s²(c − e²)), and VVᵀ is the multiplier. Rows Y_i = (s_i, V_i) are points of
unit spheres. The dual is maximised there: the fixed-point iteration of section 7 gets near from anywhere, and a
trust-region Newton method, which like it needs products HV only, ends it.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import cvxpy
import torch
from scipy.sparse.linalg import ArpackError, LinearOperator, eigsh
from torch import Tensor

from numerics.boundary import CPU, normal, seeded_generator, to_numpy, to_tensor
from numerics.errors import InputRefused

cp: Any = cvxpy
Product = Callable[[Tensor], Tensor]
Status = Literal["optimal", "inaccurate"]

# Up to this n: cvxpy is offered, a callable's Hessian is formed, a matrix's largest eigenvalue is computed directly.
REFERENCE_LIMIT, FORMED, DENSE = 60, 256, 1000
# Columns of V at a cold start; more are added as the certificate asks for them.
COLUMNS = 16
# Steps of the fixed-point iteration: before Newton's method, cold and warm, and alone.
FIRST_STEPS, WARM_STEPS, MOST_STEPS = 10, 3, 5000
# Residual at which weak columns of V are dropped, and the relative singular value below which a column is weak.
LOOSE, WEAK = 1e-2, 0.05
ROUNDS, NEWTON_STEPS, CG_STEPS = 16, 60, 200
# Start of s where g = ε = 0, and smallest weight of a coordinate in the certificate, relative to the mean of p.
NUDGE, FLOOR = 0.1, 1e-6


@dataclass(frozen=True)
class PreconditionerSolution:
    """P̄ of (T14) with its certificate.

    `optimal` means `gap` ≤ tol; `inaccurate` that it is not, as when `rank` is below the number of critical modes.
    """

    p: Any
    """(n,), the diagonal of P, feasible: H ⪯ λ*P."""
    factor: Any
    """(n, r): the multiplier is Z = factor factorᵀ = λ*Σ."""
    gap: float
    """(primal − dual)/∑(η²p + g²/p): how far the objective can be from its optimum; for ε = 0 relative to itself."""
    status: Status
    primal: float
    """∑Φ(p), with the constant of Φ such that Φ ≥ 0: −2ηε ln(ηp/ε) in place of −2ηε ln p."""
    dual: float
    """Value of the Lagrangian dual at Z, a lower bound of the optimum."""
    excess: float
    """How far H ⪯ λ*P was violated before p was made feasible, relative to λ*P; its error bound included."""
    products: int
    """Products with H, or with the matrix formed from it, spent."""

    @property
    def Z(self) -> Any:
        """The multiplier Z = λ*Σ ⪰ 0 of H ⪯ λ*P, (n, n), formed on demand."""
        return self.factor @ self.factor.T


class _Point(NamedTuple):
    """Rows on spheres Y (n, 1 + r), half the dual's gradient G = (q/s, HV), half the dual's value."""

    Y: Tensor
    G: Tensor
    value: float


class _Certificate(NamedTuple):
    """A feasible p, V, and the fields of the solution in the program's own units."""

    p: Tensor
    V: Tensor
    gap: float
    primal: float
    dual: float
    excess: float


class _Program:
    """The program in its own units; counts products and knows every formula that depends on φ."""

    def __init__(self, product: Product, matrix: Tensor | None, c: Tensor, e: float, noise: float) -> None:
        self.matrix, self.c, self.e, self.noise, self.count = matrix, c, e, noise, 0
        self._product = product

    def H(self, V: Tensor) -> Tensor:
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

    def point(self, Y: Tensor) -> _Point:
        """Rows normalised to length 1 with s ≥ 0, and what is known there."""
        Y = Y / Y.norm(dim=1, keepdim=True)
        s, V = Y[:, 0].abs().clamp_min(torch.finfo(Y.dtype).tiny), Y[:, 1:]
        HV = self.H(V)
        value = float((V * HV).sum()) / 2 + self.dual(s)
        return _Point(torch.cat([s[:, None], V], 1), torch.cat([self.slope(s)[:, None], HV], 1), value)


def stationary_preconditioner(
    hessian: Any,
    g: Any,
    eta: float,
    threshold: float = 2.0,
    *,
    eps: float = 0.0,
    rank: int | None = None,
    solver: str = "auto",
    tol: float | None = None,
    start: PreconditionerSolution | None = None,
) -> PreconditionerSolution:
    r"""Find P̄ = argmin ∑Φ(p) subject to H ⪯ λ*P, P = diag p, for P = (√ν + ε)/η: (T13), (T14).

    Φ = η²p − 2ηε ln p + (g² − ε²)/p on p ≥ ε/η. It is where ν settles if w is held, with Z = λ*Σ the multiplier. H need not
    be positive. Coordinates with g = 0, ε = 0 and no entry in H have p = 0.

    Args:
        hessian: H as a symmetric (n, n) array or tensor, or a callable V (n, k) -> HV (n, k) for any k. The callable gets and
            returns what g is: tensors of its device and dtype, or float64 arrays.
        g: gradient, (n,). A tensor gives tensors, computed on its device in its dtype; anything else arrays, in float64.
        eta: learning rate η.
        threshold: λ*.
        eps: ε.
        rank: number of columns of the factor of Z; below the number of critical modes there is no solution, which the gap
            shows. None: as many as it takes.
        solver: "auto"; "iteration" (the fixed-point iteration of section 7 alone); "cvxpy" (reference; a matrix, n ≤ 60,
            and ε ≤ |g|).
        tol: gap to reach; 1e-8, or 1e-4 in single precision.
        start: the solution at a nearby point.

    Returns:
        P̄, the multiplier, and the gap, rigorous up to round-off. Beyond n = 1000 (or 256, given a callable) the largest eigenvalue
        that it contains is ARPACK's from a random start, plus its residual.

    Raises:
        InputRefused: on malformed input.

    Example:
        >>> import numpy as np
        >>> solution = stationary_preconditioner(np.diag([4.0, 1.0]), np.array([1.0, 1.0]), eta=1.0)
        >>> solution.status, solution.p.round(6).tolist()
        ('optimal', [2.0, 1.0])
    """
    _refuse_numbers(eta, threshold, eps, rank, solver, tol)
    like = g if isinstance(g, Tensor) else torch.zeros((), dtype=torch.float64, device=CPU)
    gradient = _vector(g, like)
    product, matrix = _hessian(hessian, gradient, isinstance(g, Tensor), threshold)
    # Above √(2n) columns the dual has no spurious maximum, for almost every H.
    limit = min(rank or max(COLUMNS, math.isqrt(2 * len(gradient)) + 2), len(gradient))
    tol = tol or (1e-4 if gradient.dtype == torch.float32 else 1e-8)
    V = _columns(gradient, rank, start, threshold**0.5 / eta)
    program, alive = _alive(product, matrix, (gradient / eta).square(), eps / eta, V)
    found = _Certificate(gradient[alive], V[alive], 0.0, 0.0, 0.0, 0.0)
    if bool(alive.any()):
        found = _METHODS[solver](program, V[alive], limit, tol, start is not None)
    p, factor = torch.zeros_like(gradient), V.new_zeros(len(V), found.V.shape[1])
    p[alive], factor[alive] = found.p, found.V * (eta / threshold**0.5)
    status: Status = "optimal" if found.gap <= tol else "inaccurate"
    outward: Callable[[Tensor], Any] = Tensor.detach if isinstance(g, Tensor) else to_numpy
    values = found.gap, status, eta**2 * found.primal, eta**2 * found.dual, found.excess, program.count
    return PreconditionerSolution(outward(p), outward(factor), *values)


def _columns(g: Tensor, rank: int | None, start: PreconditionerSolution | None, scale: float) -> Tensor:
    n = len(g)
    if start is not None and start.factor.shape[1]:
        V: Tensor = start.factor.to(g) if isinstance(start.factor, Tensor) else to_tensor(start.factor, g)
        _refuse(len(V) != n, f"start must be a solution with {n} coordinates, got {len(V)}; pass start=None.")
        return V[:, :rank] * scale
    return torch.nn.functional.normalize(normal((n, min(n, rank or COLUMNS)), seeded_generator(0), g))


def _alive(product: Product, matrix: Tensor | None, c: Tensor, e: float, V: Tensor) -> tuple[_Program, Tensor]:
    """The program without the coordinates whose p is 0: those with c = e = 0 and no entry in H."""
    image = product(normal((len(c), 1), seeded_generator(1), c)).squeeze(1)
    alive = (image != 0) | (c > 0) if e == 0 else torch.ones_like(c, dtype=torch.bool)
    noise = torch.finfo(c.dtype).eps * float(image.abs().sum())
    if bool(alive.all()):
        return _Program(product, matrix, c, e, noise), alive

    def restricted(U: Tensor) -> Tensor:
        return product(U.new_zeros(len(c), U.shape[1]).masked_scatter(alive[:, None], U))[alive]

    return _Program(restricted, None if matrix is None else matrix[alive][:, alive], c[alive], e, noise), alive


def _auto(program: _Program, V: Tensor, limit: int, tol: float, warm: bool) -> _Certificate:
    """Alternate Newton's method and the certificate, which asks for more columns or for more accuracy."""
    point = _iterate(program, V, WARM_STEPS if warm else FIRST_STEPS)
    if program.e == 0 and not bool(program.c.all()):
        # Where c = e = 0 nothing drives s away from 0, yet |V_i| < 1 is optimal if p_i = 0.
        point = program.point(torch.cat([point.Y[:, :1] + NUDGE * (program.c == 0)[:, None], point.Y[:, 1:]], 1))
    if not warm:
        point = _compress(program, _newton(program, point, LOOSE))
    level, lowest = tol, 50 * torch.finfo(V.dtype).eps
    best = _Certificate(V[:, 0], V, math.inf, 0.0, 0.0, 0.0)
    for _ in range(ROUNDS):
        point = _newton(program, point, level)
        found = _certify(program, program.stationary(point.G[:, 1:]), point.Y[:, 0], point.Y[:, 1:], tol)
        best = min(best, found, key=lambda c: c.gap)
        grow = found.excess > 30 * level and point.Y.shape[1] - 1 < limit
        if best.gap <= tol or (level <= lowest and not grow):
            break
        if grow:
            point = _grow(program, point, limit, tol)
        else:
            level = max(level / 100, lowest)
    return best


def _iteration(program: _Program, V: Tensor, limit: int, tol: float, warm: bool) -> _Certificate:
    point = _iterate(program, V, MOST_STEPS, tol)
    return _certify(program, program.stationary(point.G[:, 1:]), point.Y[:, 0], point.Y[:, 1:], tol)


def _iterate(program: _Program, V: Tensor, steps: int, level: float = 0.0) -> _Point:
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
        if level and _residual(program, point)[1] <= level:
            break
    return point


def _residual(program: _Program, point: _Point) -> tuple[Tensor, float, Tensor, Tensor]:
    """Gradient on the spheres R = G − μY, its relative size, μ and the weights d ≈ p in which it is measured."""
    mu = (point.Y * point.G).sum(1, keepdim=True)
    R = point.G - mu * point.Y
    d = _weights(program.stationary(point.G[:, 1:]))[:, None]
    return R, math.sqrt(float((R.square() / d).sum() / d.sum())), mu, d


def _weights(p: Tensor) -> Tensor:
    return p.clamp_min(FLOOR * float(p.mean())).clamp_min(torch.finfo(p.dtype).tiny)


def _newton(program: _Program, point: _Point, level: float) -> _Point:
    """Maximise the dual by a trust-region Newton method on the spheres until the residual is below the level."""
    radius = 0.0
    for _ in range(NEWTON_STEPS):
        R, size, mu, d = _residual(program, point)
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
    program: _Program, point: _Point, R: Tensor, mu: Tensor, d: Tensor, radius: float, forcing: float
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


def _compress(program: _Program, point: _Point) -> _Point:
    """Rotate V to its principal columns and drop the weak ones: they slow Newton's method down, and can come back."""
    V = point.Y[:, 1:]
    p = program.stationary(point.G[:, 1:])[:, None]
    values, Q = torch.linalg.eigh(V.T @ (p * V))
    keep = values > WEAK**2 * values[-1]
    keep[-1] = True
    return program.point(torch.cat([point.Y[:, :1], V @ Q[:, keep]], 1))


def _grow(program: _Program, point: _Point, limit: int, tol: float) -> _Point:
    """Append the most violated directions to V, as far as that raises the dual."""
    p, columns = program.stationary(point.G[:, 1:]), point.Y.shape[1] - 1
    d = _weights(p)
    values, Q, _ = _largest(program, p, d, min(limit - columns, 1 + columns // 2), tol)
    new = (Q / d.sqrt()[:, None])[:, values > values.max() / 10]
    new = new / new.norm(dim=1).max()
    for _ in range(20):
        moved = program.point(torch.cat([point.Y, new], 1))
        if moved.value > point.value:
            return moved
        new = new / 2
    return moved


def _certify(program: _Program, p: Tensor, s: Tensor, V: Tensor, tol: float) -> _Certificate:
    """Make p feasible by adding a multiple of about itself; the dual's value at V bounds the optimum from below."""
    d = _weights(p)
    values, _, error = _largest(program, p, d, 1, tol)
    excess = float(values.max()) + error
    feasible = p + max(excess, 0.0) * d
    primal, size = program.primal(feasible)
    dual = float((V * program.H(V)).sum()) + 2 * program.dual(s)
    gap = abs(primal - dual) / size if math.isfinite(excess) else math.inf
    return _Certificate(feasible, V, gap, primal, dual, excess)


def _largest(program: _Program, p: Tensor, d: Tensor, k: int, tol: float) -> tuple[Tensor, Tensor, float]:
    """Largest eigenpairs of D^-½(H − P)D^-½ and a bound of their error; H ⪯ P + μD iff none exceeds μ."""
    root, n = d.sqrt()[:, None], len(p)
    if program.matrix is not None and n <= DENSE:
        A = program.matrix / (root * root.T)
        A.diagonal().sub_(p / d)
        values, Q = torch.linalg.eigh(A)
        return values[-k:], Q[:, -k:], 4 * math.sqrt(n) * torch.finfo(p.dtype).eps * float(values.abs().max())
    return _arpack(program, p, root, k, tol)


def _arpack(program: _Program, p: Tensor, root: Tensor, k: int, tol: float) -> tuple[Tensor, Tensor, float]:
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


def _cvxpy(program: _Program, V: Tensor, limit: int, tol: float, warm: bool) -> _Certificate:
    """Solve the program as it is written; certified like every other solution."""
    bad = program.matrix is None or len(program.c) > REFERENCE_LIMIT
    _refuse(bad, f'solver "cvxpy" needs H with n ≤ {REFERENCE_LIMIT}; use solver="auto".')
    bad = bool((program.c < program.e**2).any())
    _refuse(bad, 'solver "cvxpy" needs ε ≤ |g| in every coordinate, to see the convexity; use solver="auto".')
    c, H, e = to_numpy(program.c), to_numpy(program.H(torch.eye(len(program.c)).to(program.c))), program.e
    p = cp.Variable(len(c))
    objective = cp.sum(p) + (c - e**2) @ cp.inv_pos(p) if (c > e**2).any() else cp.sum(p)
    constraint = cp.diag(p) - (H + H.T) / 2 >> 0
    objective = objective - 2 * e * cp.sum(cp.log(p)) if e else objective
    problem = cp.Problem(cp.Minimize(objective), [constraint, p >= e])
    with warnings.catch_warnings():
        # cvxpy warns that the solution may be inaccurate; the certificate measures it.
        warnings.simplefilter("ignore")
        problem.solve(solver=cp.CLARABEL, tol_gap_abs=1e-10, tol_gap_rel=1e-10, tol_feas=1e-10, max_threads=1)
    values, Q = torch.linalg.eigh(to_tensor(constraint.dual_value, program.c))
    V = Q * values.clamp_min(0).sqrt()
    V = V / max(1.0, float(V.norm(dim=1).max()) * (1 + 1e-12))
    s = (1 - V.square().sum(1)).clamp_min(0).sqrt()
    return _certify(program, to_tensor(p.value, program.c).clamp_min(e), s, V, tol)


_METHODS = {"auto": _auto, "iteration": _iteration, "cvxpy": _cvxpy}


def _refuse(bad: bool, sentence: str) -> None:
    if bad:
        raise InputRefused(sentence)


def _refuse_numbers(eta: float, threshold: float, eps: float, rank: int | None, solver: str, tol: float | None) -> None:
    for name, value, good in (("eta", eta, eta > 0), ("threshold", threshold, threshold > 0), ("eps", eps, eps >= 0)):
        bad, wanted = not (good and math.isfinite(value)), "nonnegative" if name == "eps" else "positive"
        _refuse(bad, f"{name} must be a finite {wanted} number, got {value}; pass the rule's own.")
    _refuse(rank is not None and rank < 1, f"rank must be at least 1, got {rank}; pass None for as many as it takes.")
    _refuse(solver not in _METHODS, f"solver must be one of {list(_METHODS)}, got {solver!r}; choose one of these.")
    _refuse(tol is not None and not tol > 0, f"tol must be positive, got {tol}; pass None for the default.")


def _refuse_nonfinite(name: str, value: Tensor) -> None:
    bad = int((~torch.isfinite(value)).sum())
    _refuse(bad > 0, f"{name} must be finite, got {bad} NaN or infinite entries; check the step that built it.")


def _vector(g: Any, like: Tensor) -> Tensor:
    gradient = g.detach() if isinstance(g, Tensor) else to_tensor(g, like)
    bad = gradient.ndim != 1 or not len(gradient) or not gradient.is_floating_point()
    _refuse(bad, f"g must be a real vector of shape (n,), n ≥ 1, got {tuple(gradient.shape)}, {gradient.dtype}.")
    _refuse_nonfinite("g", gradient)
    return gradient


def _hessian(hessian: Any, g: Tensor, torch_side: bool, threshold: float) -> tuple[Product, Tensor | None]:
    """H/λ* as a product, checked on a probe, and as a matrix where there is one."""

    def product(V: Tensor) -> Tensor:
        HV: Tensor = hessian(V).detach() if torch_side else to_tensor(hessian(to_numpy(V)), V)
        shapes = f"{tuple(V.shape)} to the same shape, got {tuple(HV.shape)}"
        _refuse(HV.shape != V.shape, f"the Hessian product must map {shapes}; it takes several columns at once.")
        return HV / threshold

    n, given = len(g), isinstance(hessian, Tensor) or not callable(hessian)
    if not given and n > FORMED:
        x = normal((n, 2), seeded_generator(3), g)
        Hx = product(x)
        _refuse_nonfinite("the Hessian product", Hx)
        skew = float(abs(x[:, 0] @ Hx[:, 1] - x[:, 1] @ Hx[:, 0]))
        _refuse_asymmetry(skew, float((x.norm(dim=0) * Hx.norm(dim=0)).max()), g)
        return product, None
    if given:
        whole = hessian.detach().to(g) if isinstance(hessian, Tensor) else to_tensor(hessian, g)
        _refuse(whole.shape != (n, n), f"the Hessian must have shape {(n, n)} to match g, got {tuple(whole.shape)}.")
        whole = whole / threshold
    else:
        whole = product(torch.eye(n, dtype=g.dtype, device=g.device))
    _refuse_nonfinite("the Hessian", whole)
    _refuse_asymmetry(float((whole - whole.T).abs().max()), float(whole.abs().max()), g)
    matrix = (whole + whole.T) / 2
    return (lambda V: matrix @ V), matrix


def _refuse_asymmetry(skew: float, size: float, like: Tensor) -> None:
    # Half of the digits: products by finite differences are symmetric to about that.
    bad = skew > 10 * math.sqrt(torch.finfo(like.dtype).eps) * size
    relative = skew / size if bad else 0.0
    _refuse(
        bad, f"the Hessian must be symmetric, got a relative asymmetry of {relative:.1e}; pass (H + Hᵀ)/2 if meant."
    )
