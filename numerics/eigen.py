r"""The largest eigenpairs of P⁻¹H, followed from step to step: H u = λ P u with UᵀPU = I.

All work is done in the coordinates q = P^½ u, where the operator A = P^-½ H P^-½ is symmetric. Each call continues from
the previous one: a Davidson iteration enlarges the tracked subspace by corrections of those modes that are not yet
accurate. A few *guard* modes below the floor are kept, so that a rising mode is seen before it matters. What the last
search space knew of the modes below the guards is recycled as a preconditioner; it costs no Hessian products. Guards well
below the floor may be left *aside* in most calls: then they only precondition, too.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import torch
from scipy.sparse.linalg import LinearOperator, eigsh

from numerics.boundary import CPU, normal, seeded_generator, to_numpy, to_tensor
from numerics.errors import InputRefused
from numerics.matrix import Metric

if TYPE_CHECKING:
    import numpy as np
    from jaxtyping import Bool, Float
    from numpy.typing import NDArray
    from torch import Tensor

    HessianProduct = Callable[[Tensor], Tensor]

# Up to this n the Hessian is formed: as cheap as iterating, and exact.
DENSE = 12
# `top` makes eigenvalues accurate down to this fraction below an estimate of the top one.
NEAR_TOP = 0.05
# Modes within this fraction below the floor are refined like those above it.
NEAR_FLOOR = 0.01
# A guard's residual may be this large, relative to the largest of |floor| and the top eigenvalue.
GUARD_TOLERANCE = 0.05
# Smallest relative gap assumed between a wanted mode and the untracked rest.
GAP = 0.05
# The angle is overestimated by residual/gap about this many times: most of the residual lies far down the spectrum.
ANGLE_FACTOR = 3.0
# Vectors below the guards that are recycled, and the smallest relative value for which that pays.
RECYCLED, RECYCLE_ABOVE = 12, 0.1
# At the first call and every so many more, a short Lanczos run looks for modes that the block missed.
PROBE_PERIOD, PROBE_STEPS = 16, 8
ROUNDS_COLD, ROUNDS_WARM = 80, 20
# Guards less than this fraction below the floor are never left aside.
ASIDE_BELOW = 0.1


class Modes(NamedTuple):
    """The tracked eigenpairs at one point.

    Attributes:
        values: λ, largest first, (r,).
        U: the modes as columns with UᵀPU = I, (n, r).
        HU: H U, (n, r).
        residuals: ‖P^-½(Hu − λPu)‖ relative to the largest |λ|, (r,); NaN for stale modes, whose HU is λPU with an earlier λ.
        products: Hessian products spent.
        complete: whether every eigenvalue ≥ floor should be among the values, accurate to the tolerance.
        stale: which modes were left aside and are as an earlier call found them, (r,).
    """

    values: Float[Tensor, " r"]
    U: Float[Tensor, "n r"]
    HU: Float[Tensor, "n r"]
    residuals: Float[Tensor, " r"]
    products: int
    complete: bool
    stale: Bool[Tensor, " r"]


class _Ritz(NamedTuple):
    """Approximate eigenpairs of A from a search space: values descending, Q orthonormal, AQ."""

    values: Tensor
    Q: Tensor
    AQ: Tensor

    @property
    def residual(self) -> Tensor:
        return self.AQ - self.Q * self.values

    @property
    def scale(self) -> Tensor:
        return self.values.abs().max()


class _Recycled(NamedTuple):
    """Rough modes below the guards, from the last search space: u = P^-½ q as columns, and their values."""

    values: Tensor
    U: Tensor

    def joined(self, other: _Recycled | None) -> _Recycled:
        """These modes and then the other ones."""
        if other is None:
            return self
        return _Recycled(torch.cat([self.values, other.values]), torch.cat([self.U, other.U], 1))


class _Correction:
    """About (θ − A)⁻¹, with A taken as known on the span of rough modes and 0 on the rest."""

    def __init__(self, known: _Recycled, A: _Operator) -> None:
        self._values, self._W = known.values, _orthonormal(A.metric.up(known.U), A.metric.empty())

    def __call__(self, residual: Tensor, theta: Tensor) -> Tensor:
        W = self._W
        if W.shape[1] != len(self._values):
            return residual
        coefficients = W.T @ residual
        smallest = GAP * theta.abs().max()
        near = W @ (coefficients / (theta - self._values[:, None]).clamp_min(smallest))
        return near + (residual - W @ coefficients) / theta.clamp_min(smallest)


class _Operator:
    """A = P^-½ H P^-½ with a count of its products; coordinates with P = 0 are left out."""

    def __init__(self, hessian_product: HessianProduct, P: Tensor, n: int) -> None:
        self.metric = Metric(P, n)
        self._product, self.count = hessian_product, 0

    def __call__(self, Q: Tensor) -> Tensor:
        self.count += Q.shape[1]
        return self.metric.down(self._product(self.metric.down(Q)))


class EigenTracker:
    """Follows all eigenvalues of P⁻¹H above a floor, and a few below it, from call to call."""

    def __init__(
        self,
        n: int,
        *,
        guards: int = 2,
        start: int = 4,
        limit: int = 32,
        tol: float = 1e-5,
        seed: int = 0,
        period: int = 1,
    ) -> None:
        """Set up a tracker that has no subspace yet.

        Args:
            n: number of parameters.
            guards: modes kept below the floor.
            start: size of the first search block.
            limit: most modes ever returned.
            tol: the wanted modes are accurate to an angle √(tol/10), their values to tol relative or better.
            seed: of the random directions.
            period: guards well below the floor are brought up to date at every so many-th call.

        Raises:
            InputRefused: if a size is not positive or the limit is too small.
        """
        if min(n, guards, start, period) < 1 or limit <= guards or tol <= 0:
            raise InputRefused(
                f"EigenTracker needs n, guards, start, period ≥ 1, limit > guards and tol > 0, got n={n}, guards={guards}, "
                f"start={start}, period={period}, limit={limit}, tol={tol}; use the defaults"
            )
        self.n, self.guards, self.start, self.limit, self.tol = n, guards, start, limit, tol
        self.period, self._generator = period, seeded_generator(seed)
        self._calls = 0
        self._values: Tensor | None = None
        self._U: Tensor | None = None
        self._recycled: _Recycled | None = None
        # For the present call:
        self._aside: _Recycled | None = None
        self._correct: _Correction | None = None

    def track(self, hessian_product: HessianProduct, P: Float[Tensor, ...], floor: float) -> Modes:
        """Eigenpairs at the present point: all with λ ≥ floor, and `guards` below.

        Args:
            hessian_product: V (n, k) -> H V (n, k).
            P: the preconditioner, a scalar, (n,) or a symmetric matrix (n, n), ≥ 0; where it is 0 the Hessian's row must be 0 too.
            floor: the smallest eigenvalue of interest.

        Returns:
            At least min(n, guards + 1) modes. A P of another shape, negative or not finite is refused (InputRefused).
        """
        _refuse_preconditioner(P, self.n)
        A = _Operator(hessian_product, P, self.n)
        self._aside = self._left_aside(floor)
        known = self._recycled if self._aside is None else self._aside.joined(self._recycled)
        self._correct = None if known is None else _Correction(known, A)
        ritz = _dense(A, P, self.n) if self.n <= DENSE else self._iterate(A, floor)
        keep = min(self._keep(ritz.values, floor), len(ritz.values))
        modes = self._select(ritz, A, keep, floor)
        self._recycled = self._recycle(ritz, A, keep, modes)
        self._U, self._values = modes.U, modes.values
        self._calls += 1
        return modes

    def top(self, hessian_product: HessianProduct, P: Float[Tensor, ...]) -> Modes:
        """Eigenpairs at the present point, those near the top one accurate though nothing is known of it beforehand."""
        estimate = float(self.track(hessian_product, P, math.inf).values[0])
        return self.track(hessian_product, P, estimate - NEAR_TOP * abs(estimate))

    def state(self) -> dict[str, Tensor]:
        """Return everything the next call depends on, as tensors."""
        state = {"calls": torch.tensor(self._calls, device=CPU), "generator": self._generator.get_state()}
        if self._U is not None and self._values is not None and self._recycled is not None:
            state |= {
                "U": self._U,
                "values": self._values,
                "recycled_values": self._recycled.values,
                "recycled_U": self._recycled.U,
            }
        return state

    def restore(self, state: dict[str, Tensor]) -> None:
        """Continue exactly where `state()` was taken."""
        self._calls = int(state["calls"])
        self._generator.set_state(state["generator"].to(CPU))
        self._U, self._values = state.get("U"), state.get("values")
        self._recycled = None if self._U is None else _Recycled(state["recycled_values"], state["recycled_U"])

    def _left_aside(self, floor: float) -> _Recycled | None:
        """The guards that this call does not touch: those well below the floor, but for every `period`-th call."""
        if self._U is None or self._values is None or self._calls % self.period == 0 or self.n <= DENSE:
            return None
        kept = max(1, int((self._values >= floor - ASIDE_BELOW * abs(floor)).sum()))
        return _Recycled(self._values[kept:], self._U[:, kept:])

    def _iterate(self, A: _Operator, floor: float) -> _Ritz:
        """Return Ritz pairs by Davidson's method: corrections of what is not yet accurate enlarge the search space."""
        S = self._first_block(A)
        ritz = _rayleigh_ritz(S, A(S))
        probing = self._calls % PROBE_PERIOD == 0
        for _ in range(ROUNDS_WARM if self._calls else ROUNDS_COLD):
            keep = self._keep(ritz.values, floor)
            fresh = self._directions(ritz, A, keep, floor)
            if ritz.Q.shape[1] + fresh.shape[1] > 3 * keep + 8:
                ritz = _Ritz(*(part[..., : keep + 4] for part in ritz))
            fresh = _orthonormal(fresh, ritz.Q)
            if fresh.shape[1]:
                ritz = _enlarge(ritz, fresh, A(fresh))
            elif probing:
                # A hidden mode may be one of several, so the search goes on until it finds nothing new.
                known = self._wanted(ritz.values, floor)
                ritz = self._probe(A, ritz)
                probing = self._wanted(ritz.values, floor) > known
            else:
                break
        return ritz

    def _first_block(self, A: _Operator) -> Tensor:
        """Return the tracked subspace (extrapolating it was measured to cost products); at first, random directions."""
        aside = 0 if self._aside is None else len(self._aside.values)
        if self._U is None:
            block = self._random(A, min(self.start, self.n))
        else:
            block = A.metric.up(self._U[:, : self._U.shape[1] - aside])
        return _orthonormal(block, A.metric.empty())

    def _random(self, A: _Operator, count: int) -> Tensor:
        return A.metric.seen(normal((self.n, count), self._generator, A.metric.empty()))

    def _probe(self, A: _Operator, ritz: _Ritz) -> _Ritz:
        """Return Ritz pairs of the search space enlarged by a short Krylov space of a random direction."""
        S, AS, v = ritz.Q, ritz.AQ, _orthonormal(self._random(A, 1), ritz.Q)
        for _ in range(PROBE_STEPS):
            if not v.shape[1]:
                break
            Av = A(v)
            S, AS = torch.cat([S, v], 1), torch.cat([AS, Av], 1)
            v = _orthonormal(Av, S)
        return _rayleigh_ritz(S, AS)

    def _wanted(self, values: Tensor, floor: float) -> int:
        """Return the number of modes that must be accurate: all from just below the floor up, and always the first."""
        return max(1, int((values >= floor - NEAR_FLOOR * abs(floor)).sum()))

    def _keep(self, values: Tensor, floor: float) -> int:
        """Return the number of wanted modes and guards; one more may stay if it was tracked, lest it comes and goes."""
        wanted = self._wanted(values, floor)
        if self._aside is not None:
            near = int((values >= floor - ASIDE_BELOW * abs(floor)).sum())
            return min(max(wanted, near), self.limit - self.guards, self.n)
        tracked = 0 if self._U is None else self._U.shape[1]
        return min(max(wanted + self.guards, min(tracked, wanted + self.guards + 1)), self.limit, self.n)

    def _directions(self, ritz: _Ritz, A: _Operator, keep: int, floor: float) -> Tensor:
        """Return corrections of the modes that are not accurate, and random directions if there are too few modes."""
        poor = self._poor(ritz, keep, floor)
        fresh = ritz.residual[:, : len(poor)][:, poor]
        if self._correct is not None and fresh.shape[1]:
            fresh = self._correct(fresh, ritz.values[: len(poor)][poor])
        missing = keep - ritz.Q.shape[1]
        return fresh if missing <= 0 else torch.cat([fresh, self._random(A, missing)], 1)

    def _poor(self, ritz: _Ritz, keep: int, floor: float) -> Tensor:
        """Return which of the first `keep` Ritz pairs need work, as a mask.

        The angle between a Ritz vector and the true subspace is about its residual over the distance of its value from
        the rest of the spectrum, for which the last guard stands, or the first of those left aside.
        """
        values = ritz.values[:keep]
        norms = ritz.residual[:, :keep].norm(dim=0)
        scale = torch.clamp(ritz.scale, min=abs(floor))
        rest = values[-1] if self._aside is None or not len(self._aside.values) else self._aside.values[0]
        gap = torch.maximum(values - rest, GAP * scale)
        wanted = torch.arange(len(values), device=values.device) < self._wanted(values, floor)
        allowed = torch.where(wanted, ANGLE_FACTOR * (self.tol / 10) ** 0.5 * gap, GUARD_TOLERANCE * scale)
        poor: Tensor = norms > torch.maximum(allowed, 100 * torch.finfo(values.dtype).eps * scale)
        return poor

    def _recycle(self, ritz: _Ritz, A: _Operator, keep: int, modes: Modes) -> _Recycled:
        """Return the Ritz vectors below the kept ones, then what is left of the earlier recycled vectors."""
        useful = ritz.values[keep:] > RECYCLE_ABOVE * ritz.scale
        Z, values = ritz.Q[:, keep:][:, useful], ritz.values[keep:][useful]
        if self._recycled is not None:
            W = A.metric.up(self._recycled.U)
            kept = _orthonormal(torch.cat([A.metric.up(modes.U), Z], 1), A.metric.empty())
            old = _orthonormal(W, kept)
            shares = (old.T @ W).square() / W.square().sum(0).clamp_min(torch.finfo(W.dtype).tiny)
            Z, values = torch.cat([Z, old], 1), torch.cat([values, shares @ self._recycled.values])
        return _Recycled(values[:RECYCLED], A.metric.down(Z[:, :RECYCLED]))

    def _select(self, ritz: _Ritz, A: _Operator, keep: int, floor: float) -> Modes:
        poor = self._poor(ritz, keep, floor)
        kept, stale = self._with_aside(_Ritz(ritz.values[:keep], ritz.Q[:, :keep], ritz.AQ[:, :keep]), A)
        values, Q, AQ = kept
        sign = _sign(Q)
        residuals = kept.residual.norm(dim=0) / ritz.scale.clamp_min(torch.finfo(values.dtype).tiny)
        residuals = torch.where(stale, torch.nan, residuals)
        covered = keep == self.n or bool(values[-1] < floor)
        return Modes(
            values,
            A.metric.down(Q) * sign,
            A.metric.up(AQ) * sign,
            residuals,
            A.count,
            covered and not bool(poor[: self._wanted(ritz.values[:keep], floor)].any()),
            stale,
        )

    def _with_aside(self, ritz: _Ritz, A: _Operator) -> tuple[_Ritz, Tensor]:
        """Append the guards left aside, made orthogonal to the rest, with the values they had; AQ is then Q times these.

        Returns:
            All pairs in order, and which of them are such guards.
        """
        fresh = torch.zeros_like(ritz.values, dtype=torch.bool)
        if self._aside is None:
            return ritz, fresh
        Q, values = _orthonormal(A.metric.up(self._aside.U), ritz.Q), self._aside.values
        if Q.shape[1] < len(values):  # some are among the rest by now: they are sought anew
            return ritz, fresh
        stale = torch.cat([fresh, torch.ones_like(values, dtype=torch.bool)])
        values, Q, AQ = (torch.cat(pair, -1) for pair in zip(ritz, (values, Q, Q * values), strict=True))
        order = values.argsort(descending=True, stable=True)
        return _Ritz(values[order], Q[:, order], AQ[:, order]), stale[order]


def spectral_cut(values: Float[Tensor, " r"], threshold: float, window: float, gap: float = 0.005) -> int:
    """How many modes to treat as critical: all with λ ≥ threshold·(1 − window), and on to the next spectral gap.

    Args:
        values: eigenvalues, largest first.
        threshold: λ*.
        window: relative distance from the threshold within which a mode is critical.
        gap: smallest distance of neighbouring values, relative to the threshold, at which the set may be cut.

    Returns:
        The number of leading values in the set; all of them if no gap is found among the given ones.
    """
    listed: list[float] = values.tolist()
    count: int = sum(v >= threshold * (1 - window) for v in listed)
    while 0 < count < len(listed) and listed[count - 1] - listed[count] < gap * abs(threshold):
        count += 1
    return count


def dense_modes(
    hessian_product: HessianProduct, P: Float[Tensor, ...], n: int
) -> tuple[Float[Tensor, " n"], Float[Tensor, "n n"]]:
    """Return all eigenvalues of P⁻¹H, largest first, and U with UᵀPU = I, from the full Hessian: slow and obvious."""
    A = _Operator(hessian_product, P, n)
    ritz = _dense(A, P, n)
    return ritz.values, A.metric.down(ritz.Q)


def independent_top_eigenvalues(
    hessian_product: HessianProduct, P: Float[Tensor, " n"], k: int, tol: float = 1e-10
) -> NDArray[np.float64]:
    """The k largest eigenvalues of P⁻¹H by ARPACK, largest first: shares no code with the tracker.

    Args:
        hessian_product: V (n, 1) -> H V (n, 1).
        P: the preconditioner, (n,), > 0.
        k: how many, less than n.
        tol: relative accuracy.

    Returns:
        The eigenvalues, (k,).
    """
    root = P.sqrt()

    def product(q: NDArray[np.float64]) -> NDArray[np.float64]:
        column = to_tensor(q.reshape(-1), P) / root
        return to_numpy(hessian_product(column[:, None])[:, 0] / root)

    operator = LinearOperator((P.numel(), P.numel()), matvec=product, dtype=float)
    v0 = to_numpy(normal((P.numel(),), seeded_generator(0), P)).astype(float)
    values: NDArray[np.float64] = eigsh(operator, k=k, which="LA", tol=tol, v0=v0, return_eigenvectors=False)
    return values[values.argsort()[::-1]]


def _refuse_preconditioner(P: Tensor, n: int) -> None:
    if P.shape not in {(), (n,), (n, n)}:
        raise InputRefused(
            f"P must be a scalar or have shape ({n},) or ({n}, {n}), got {tuple(P.shape)}; pass the diagonal, or the symmetric matrix"
        )
    if P.ndim == 2:
        definite = bool(torch.isfinite(P).all()) and int(torch.linalg.cholesky_ex(P).info) == 0
        if not definite:
            raise InputRefused(
                "P must be a finite, positive definite matrix, got another; check the accumulators it comes from"
            )
        return
    bad = int((~(torch.isfinite(P) & (P >= 0))).sum())
    if bad or not bool((P > 0).any()):
        raise InputRefused(
            f"P must be finite, ≥ 0 and not all 0, got {bad} other entries of {P.numel()}; check the accumulators it "
            f"comes from"
        )


def _dense(A: _Operator, P: Tensor, n: int) -> _Ritz:
    identity = torch.eye(n, dtype=P.dtype, device=P.device)
    return _rayleigh_ritz(identity, A(identity))


def _rayleigh_ritz(S: Tensor, AS: Tensor) -> _Ritz:
    M = S.T @ AS
    values, Y = torch.linalg.eigh((M + M.T) / 2)
    Y = Y.flip(1)
    return _Ritz(values.flip(0), S @ Y, AS @ Y)


def _enlarge(ritz: _Ritz, fresh: Tensor, A_fresh: Tensor) -> _Ritz:
    return _rayleigh_ritz(torch.cat([ritz.Q, fresh], 1), torch.cat([ritz.AQ, A_fresh], 1))


def _unit(V: Tensor) -> Tensor:
    norms: Tensor = V.norm(dim=0)
    nonzero = norms > 0
    return V / norms if bool(nonzero.all()) else V[:, nonzero].div(norms[nonzero])


def _orthonormal(V: Tensor, S: Tensor) -> Tensor:
    """Return an orthonormal basis of what V adds to the span of S (orthonormal), dropping dependent columns."""
    # Twice is enough: the second pass removes the round-off of the first.
    for _ in range(2):
        V = _unit(V)
        V = _independent(V - S @ (S.T @ V))
    # Products by differences depend on the sign, and that of what comes here may be one of round-off.
    return V * _sign(V)


def _sign(Q: Tensor) -> Tensor:
    """Return one sign for each column: its largest entry becomes positive."""
    largest = Q.gather(0, Q.abs().argmax(0, keepdim=True))
    return torch.where(largest < 0, -1.0, 1.0)


def _independent(V: Tensor) -> Tensor:
    """Return about orthonormal columns that span those of V, which are at most unit vectors, without dependent ones.

    V = QR by the Cholesky factor of VᵀV, several times faster for a few long columns; by Householder where R is nearly singular.
    """
    eps = torch.finfo(V.dtype).eps
    R, failed = torch.linalg.cholesky_ex(V.T @ V, upper=True)
    if V.shape[1] and not int(failed) and bool(R.diagonal().min() > eps**0.25):
        identity = torch.eye(V.shape[1], dtype=V.dtype, device=V.device)
        kept: Tensor = V @ torch.linalg.solve_triangular(R, identity, upper=True)
        return kept
    Q, R = torch.linalg.qr(V)
    kept = Q[:, R.diagonal().abs() > eps**0.5]
    return kept
