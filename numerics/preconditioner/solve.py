r"""The preconditioner at which the accumulators settle (THEORY section 7): (T14) with a rigorous duality gap."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from numerics.boundary import CPU, normal, seeded_generator, to_numpy, to_tensor
from numerics.preconditioner.cvxpy_solver import solve_by_cvxpy
from numerics.preconditioner.dual_ascent import ascend, iterate_alone
from numerics.preconditioner.program import Certificate, Product, Program, refuse

Status = Literal["optimal", "inaccurate"]

# A callable's Hessian is formed up to this n.
FORMED = 256
# Columns of V at a cold start; more are added as the certificate asks for them.
COLUMNS = 16
_METHODS = {"auto": ascend, "iteration": iterate_alone, "cvxpy": solve_by_cvxpy}


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
    found = Certificate(gradient[alive], V[alive], 0.0, 0.0, 0.0, 0.0)
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
        refuse(len(V) != n, f"start must be a solution with {n} coordinates, got {len(V)}; pass start=None.")
        return V[:, :rank] * scale
    return torch.nn.functional.normalize(normal((n, min(n, rank or COLUMNS)), seeded_generator(0), g))


def _alive(product: Product, matrix: Tensor | None, c: Tensor, e: float, V: Tensor) -> tuple[Program, Tensor]:
    """The program without the coordinates whose p is 0: those with c = e = 0 and no entry in H."""
    image = product(normal((len(c), 1), seeded_generator(1), c)).squeeze(1)
    alive = (image != 0) | (c > 0) if e == 0 else torch.ones_like(c, dtype=torch.bool)
    noise = torch.finfo(c.dtype).eps * float(image.abs().sum())
    if bool(alive.all()):
        return Program(product, matrix, c, e, noise), alive

    def restricted(U: Tensor) -> Tensor:
        return product(U.new_zeros(len(c), U.shape[1]).masked_scatter(alive[:, None], U))[alive]

    return Program(restricted, None if matrix is None else matrix[alive][:, alive], c[alive], e, noise), alive


def _refuse_numbers(eta: float, threshold: float, eps: float, rank: int | None, solver: str, tol: float | None) -> None:
    for name, value, good in (("eta", eta, eta > 0), ("threshold", threshold, threshold > 0), ("eps", eps, eps >= 0)):
        bad, wanted = not (good and math.isfinite(value)), "nonnegative" if name == "eps" else "positive"
        refuse(bad, f"{name} must be a finite {wanted} number, got {value}; pass the rule's own.")
    refuse(rank is not None and rank < 1, f"rank must be at least 1, got {rank}; pass None for as many as it takes.")
    refuse(solver not in _METHODS, f"solver must be one of {list(_METHODS)}, got {solver!r}; choose one of these.")
    refuse(tol is not None and not tol > 0, f"tol must be positive, got {tol}; pass None for the default.")


def _refuse_nonfinite(name: str, value: Tensor) -> None:
    bad = int((~torch.isfinite(value)).sum())
    refuse(bad > 0, f"{name} must be finite, got {bad} NaN or infinite entries; check the step that built it.")


def _vector(g: Any, like: Tensor) -> Tensor:
    gradient = g.detach() if isinstance(g, Tensor) else to_tensor(g, like)
    bad = gradient.ndim != 1 or not len(gradient) or not gradient.is_floating_point()
    refuse(bad, f"g must be a real vector of shape (n,), n ≥ 1, got {tuple(gradient.shape)}, {gradient.dtype}.")
    _refuse_nonfinite("g", gradient)
    return gradient


def _hessian(hessian: Any, g: Tensor, torch_side: bool, threshold: float) -> tuple[Product, Tensor | None]:
    """H/λ* as a product, checked on a probe, and as a matrix where there is one."""

    def product(V: Tensor) -> Tensor:
        HV: Tensor = hessian(V).detach() if torch_side else to_tensor(hessian(to_numpy(V)), V)
        shapes = f"{tuple(V.shape)} to the same shape, got {tuple(HV.shape)}"
        refuse(HV.shape != V.shape, f"the Hessian product must map {shapes}; it takes several columns at once.")
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
        refuse(whole.shape != (n, n), f"the Hessian must have shape {(n, n)} to match g, got {tuple(whole.shape)}.")
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
    refuse(bad, f"the Hessian must be symmetric, got a relative asymmetry of {relative:.1e}; pass (H + Hᵀ)/2 if meant.")
