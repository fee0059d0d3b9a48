r"""Derivatives of a loss at one point: g = ∇L, products H V, and ∇H[u_i, u_j] for all pairs of a few vectors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch

from numerics.errors import InputRefused
from numerics.ghost_batches import gradient_graphs, pullback, terms_of, value_and_gradient

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from jaxtyping import Float
    from torch import Tensor

    Loss = Callable[[Tensor], Tensor]

ThirdMethod = Literal["auto", "exact", "differences"]

# Distance, in units of ‖u‖ = 1, at which gradients are differenced: balances eps·‖g‖/ε² against ε²/12 · ∇⁵L in float64.
# Step of the forward difference for quick Hessian products, for a unit direction in float64.
QUICK_STEP = 1e-6
STEP = 1e-4
# The second step size of the error check; its truncation error is 9 times larger, so agreement bounds both errors.
CHECK_RATIO = 3.0
# Largest disagreement between the two step sizes, relative to max ‖T_ij‖, with which differences are accepted.
CHECK_TOLERANCE = 1e-5


class NonFiniteLoss(FloatingPointError):
    """Raised with one sentence when a loss or its gradient becomes nan or inf."""


def evaluate(loss: Loss, w: Float[Tensor, " n"], name: str = "loss") -> tuple[Tensor, Float[Tensor, " n"]]:
    """Return L(w) and ∇L(w), both detached; NonFiniteLoss is raised if either is not finite."""
    value, gradient = value_and_gradient(loss, w)
    require_finite(name, w, value, gradient)
    return value, gradient


def require_finite(name: str, w: Tensor, value: Tensor, gradient: Tensor) -> None:
    """Let finite results pass.

    Raises:
        NonFiniteLoss: with the value, the number of bad gradient entries and ‖w‖.
    """
    bad = int((~torch.isfinite(gradient)).sum())
    if bad or not bool(torch.isfinite(value)):
        raise NonFiniteLoss(
            f"{name} must stay finite, but at a point with ‖w‖ = {float(w.norm()):.4g} its value is {float(value):.4g} "
            f"and {bad} of its {gradient.numel()} gradient entries are not finite; lower the learning rate or start "
            f"elsewhere"
        )


class LocalDerivatives:
    """Derivatives of L at one point w.

    Exact products and third derivatives share one graph of the gradient, made when it is first needed; where the loss is a sum
    over ghost batches, each batch's graph is made anew and dropped.

    Attributes:
        w: the point, (n,).
        loss: L(w), a scalar tensor.
        grad: ∇L(w), (n,).
    """

    def __init__(self, loss: Loss, w: Float[Tensor, " n"], name: str = "loss") -> None:
        self._function, self.w = loss, w.detach().clone()
        self.loss, self.grad = evaluate(loss, self.w, name)
        self._kept: list[tuple[Tensor, Tensor]] | None = None

    def _graphs(self) -> Iterable[tuple[Tensor, Tensor]]:
        """Leaf and differentiable gradient of each term of the loss."""
        if len(terms_of(self._function)) > 1:
            return gradient_graphs(self._function, self.w)
        if self._kept is None:
            self._kept = list(gradient_graphs(self._function, self.w))
        return self._kept

    def hessian_product(self, V: Float[Tensor, "n k"]) -> Float[Tensor, "n k"]:
        """Return H V, by one double backward per column."""
        total = torch.zeros_like(V)
        if V.shape[1]:
            for leaf, gradient in self._graphs():
                total = total + torch.stack([pullback(gradient, leaf, v) for v in V.unbind(1)], 1)
        return total

    def quick_hessian_product(self, V: Float[Tensor, "n k"]) -> Float[Tensor, "n k"]:
        """H V to a relative accuracy of about 1e-5, at one gradient per column where the precision allows.

        In float64 a forward difference over a step of 1e-6 costs half as much as a double backward; its error, half the step
        times ∇H[v, v], is far below what following an eigenvector needs. Other precisions get the exact product.
        """
        if self.w.dtype != torch.float64:
            return self.hessian_product(V)
        norms = V.norm(dim=0)
        unit = V * torch.where(norms > 0, QUICK_STEP / norms, torch.zeros_like(norms))
        columns = [value_and_gradient(self._function, self.w + v)[1] - self.grad for v in unit.unbind(1)]
        return torch.stack(columns, 1) * (norms / QUICK_STEP) if columns else torch.zeros_like(V)

    def third(
        self, U: Float[Tensor, "n k"], method: ThirdMethod = "auto", *, checked: bool = True
    ) -> Float[Tensor, "k k n"]:
        """T with T_ij = ∇H[u_i, u_j] = ∇_w (u_iᵀ H(w) u_j), symmetric in i and j.

        The columns may have any scale: they are normalised for the computation and the scale put back.

        Args:
            U: the directions as columns.
            checked: whether differences are compared at a second step size; a caller that follows a path may do so now and then.
            method: "exact" (backward through H u_i), "differences" (of gradients; float64 only, checked at a second
                step size and replaced by "exact" when the check fails) or "auto" (the cheaper of the two).

        Returns:
            The vectors T_ij, (k, k, n).

        Raises:
            InputRefused: for an unknown method.
        """
        if method not in {"auto", "exact", "differences"}:
            raise InputRefused(f'method must be "auto", "exact" or "differences", got {method!r}; leave it out')
        norms = U.norm(dim=0)
        unit = U / torch.where(norms > 0, norms, 1.0)
        result = None
        if self.w.dtype == torch.float64 and method != "exact" and U.shape[1] > 0:
            result = self._third_by_differences(unit, checked)
        if result is None:
            result = self._third_exact(unit)
        scaled: Tensor = result * (norms[:, None] * norms)[:, :, None]
        return scaled

    def _third_exact(self, U: Tensor) -> Tensor:
        k = U.shape[1]
        pairs = {(i, j): torch.zeros_like(self.w) for i in range(k) for j in range(i, k)}
        for leaf, gradient in self._graphs() if k else ():
            for i in range(k):
                h = pullback(gradient, leaf, U[:, i], create_graph=True)
                for j in range(i, k):
                    pairs[i, j] = pairs[i, j] + pullback(h, leaf, U[:, j])
        return _symmetric(pairs, k, self.w)

    def _third_by_differences(self, U: Tensor, checked: bool) -> Tensor | None:
        k = U.shape[1]
        diagonal = [self._second_difference(U[:, i], STEP) for i in range(k)]
        pairs = {(i, i): d for i, d in enumerate(diagonal)}
        for i in range(k):
            for j in range(i + 1, k):
                # D[u+v] = D[u] + D[v] + 2 ∇H[u,v]
                both = self._second_difference(U[:, i] + U[:, j], STEP)
                pairs[i, j] = (both - diagonal[i] - diagonal[j]) / 2
        T = _symmetric(pairs, k, self.w)
        return T if not checked or self._differences_hold(T, U) else None

    def _second_difference(self, v: Tensor, step: float) -> Tensor:
        """Return ∇H[v, v] ≈ (g(w + εv̂) − 2g(w) + g(w − εv̂))/ε² · ‖v‖², v̂ = v/‖v‖."""
        norm = v.norm()
        shift = v * (step / torch.where(norm > 0, norm, 1.0))
        plus = value_and_gradient(self._function, self.w + shift)[1]
        minus = value_and_gradient(self._function, self.w - shift)[1]
        curved: Tensor = ((plus - self.grad) + (minus - self.grad)) * (norm / step).square()
        return curved

    def _differences_hold(self, T: Tensor, U: Tensor) -> bool:
        """Return whether ∇H[v, v], v = U a, agrees at a second step size: it sees round-off, truncation and kinks."""
        a = torch.cos(torch.arange(U.shape[1], device=U.device, dtype=U.dtype))
        expected = torch.einsum("i,j,ijn->n", a, a, T)
        other = self._second_difference(U @ a, CHECK_RATIO * STEP)
        # A comparison with nan is False, so a non-finite neighbour is sent to the exact method as well.
        return bool((other - expected).norm() <= CHECK_TOLERANCE * T.norm(dim=2).max() * a.square().sum())


def _symmetric(pairs: dict[tuple[int, int], Tensor], k: int, like: Tensor) -> Tensor:
    if k == 0:
        return like.new_zeros(0, 0, like.numel())
    return torch.stack([torch.stack([pairs[min(i, j), max(i, j)] for j in range(k)]) for i in range(k)])
