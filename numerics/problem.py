"""A training problem: a loss of one flat parameter vector, and its derivatives."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import nn

from numerics.derivatives import LocalDerivatives, NonFiniteLoss, evaluate
from numerics.errors import InputRefused
from numerics.ghost_batches import on_leaf, refuse_other_than_scalar, terms_of
from numerics.models.losses import CRITERIA
from numerics.models.network import Network
from numerics.self_check import CheckReport, check_derivatives

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from jaxtyping import Float
    from torch import Tensor

    from numerics.models.losses import Criterion

T = TypeVar("T")

__all__ = ["CheckReport", "LocalDerivatives", "NonFiniteLoss", "Problem"]


class Problem:
    """Minimise L(w), a deterministic and three times differentiable function of a flat vector w.

    Attributes:
        loss: the function, (n,) -> scalar.
        w0: the initial point, detached, (n,).
        n: number of parameters.
        blocks: sizes of the parameter tensors that w consists of.
        device: of w0; everything computed lives there.
        dtype: of w0.
        name: how messages call the loss.
        settings: how the problem was made, if it was from named parts; kept in the manifest of a run, which cannot be
            resumed with others.
        leads: whether this process records and reports; of several that share one problem, the first does.
    """

    leads: bool = True

    def __init__(
        self,
        loss: Callable[[Tensor], Tensor],
        w0: Float[Tensor, " n"],
        *,
        blocks: Sequence[int] | None = None,
        name: str = "loss",
    ) -> None:
        """Accept a loss and a starting point, evaluating the loss twice at w0.

        Args:
            loss: flat tensor (n,) -> scalar tensor, full batch.
            w0: where training starts.
            blocks: sizes of the parameter tensors, summing to n; default one block.
            name: how messages call the loss.

        A w0 or loss that is not as described is refused (InputRefused).
        """
        _refuse_point(w0)
        self.loss, self.name = loss, name
        self.w0 = w0.detach().clone()
        self.n, self.device, self.dtype = w0.numel(), w0.device, w0.dtype
        self.blocks = _accept_blocks(blocks, self.n)
        self.settings: dict[str, Any] = {}
        self._network: Network | None = None
        _refuse_loss(loss, self.w0, name)

    @classmethod
    def from_module(
        cls,
        module: nn.Module,
        data: tuple[Any, Any],
        criterion: str | Criterion,
        *,
        name: str = "loss",
        ghost_batch: int | None = None,
    ) -> Problem:
        """The full-batch training loss of a torch module, starting from its present parameters.

        Args:
            module: deterministic in its present mode; it is referred to and not changed.
            data: (inputs, targets), on the module's device.
            criterion: "mse" (½‖f − y‖², summed over outputs, averaged over examples), "cross_entropy", "binary_mse" and
                "binary_cross_entropy" (one output, targets ±1), or a function (outputs, targets) -> scalar.
            name: how messages call the loss.
            ghost_batch: examples whose graph is in memory at a time; every derivative is summed over such batches, which
                changes it by round-off only. Default: all at once.

        Returns:
            The problem. What it cannot be is refused (InputRefused) with one sentence naming the parameter or layer.
        """
        network = Network(*_accept_module(module, data), _accept_criterion(criterion), ghost_batch)
        return Problem._of(network, name, {})

    @staticmethod
    def _of(network: Network, name: str, settings: dict[str, Any]) -> Problem:
        problem = Problem(network.objective(name), network.flat, blocks=network.blocks, name=name)
        problem._network, problem.settings = network, settings
        return problem

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Problem:
        """The same problem elsewhere or in another precision; None keeps what it has. The module itself is copied, not moved.

        Raises:
            InputRefused: for a bare loss, whose data are its own.
        """
        device, dtype = torch.device(device or self.device), dtype or self.dtype
        if (device, dtype) == (self.device, self.dtype):
            return self
        if self._network is None:
            raise InputRefused(
                f"a bare loss stays on {self.device} in {self.dtype}, as its data do, and {device} in {dtype} was asked "
                "for; make it there, or use Problem.from_module"
            )
        return Problem._of(self._network.to(device, dtype), self.name, self.settings)

    def value(self, w: Float[Tensor, " n"]) -> Float[Tensor, ""]:
        """L(w), without a graph.

        Returns:
            A scalar tensor.

        Raises:
            NonFiniteLoss: if the value is nan or inf.
        """
        with torch.no_grad():
            value = self.loss(w.detach())
        if not bool(torch.isfinite(value)):
            raise NonFiniteLoss(
                f"{self.name} must stay finite, but at a point with ‖w‖ = {float(w.norm()):.4g} it is "
                f"{float(value):.4g}; lower the learning rate or start elsewhere"
            )
        return value

    def gradient(self, w: Float[Tensor, " n"]) -> tuple[Float[Tensor, ""], Float[Tensor, " n"]]:
        """Return L(w) and ∇L(w), detached; NonFiniteLoss is raised if they are not finite."""
        return evaluate(self.loss, w, self.name)

    def linearise(self, w: Float[Tensor, " n"]) -> LocalDerivatives:
        """Return the gradient, Hessian products and third derivatives at w; NonFiniteLoss as in `gradient`."""
        return LocalDerivatives(self.loss, w, self.name)

    def outputs(self, w: Float[Tensor, " n"]) -> Any:
        """Return the module's outputs on the training inputs, differentiable in w."""
        return self._require_network().outputs(w)

    def unflatten(self, w: Float[Tensor, " n"]) -> dict[str, Tensor]:
        """Return views of w with the module's parameter names and shapes."""
        return self._require_network().unflatten(w)

    def check(self, seed: int = 0) -> CheckReport:
        """Compare the derivatives used with finite differences, at w0 and at a random point nearby.

        Returns:
            A report whose `require()` refuses a problem with wrong derivatives, naming the layer at fault. It costs
            about 60 gradients.
        """
        return check_derivatives(self.loss, self.w0, self.name, self._network, seed)

    def on_leader(self, make: Callable[[], T]) -> T | None:
        """Return make() on the process that leads, None on the others; a refusal is raised on all of them."""
        return make()

    def from_leader(self, value: T) -> T:
        """Return the leading process's value on all of them."""
        return value

    def _require_network(self) -> Network:
        if self._network is None:
            raise InputRefused(
                "outputs need a module, but this problem was made from a bare loss; use Problem.from_module"
            )
        return self._network


def _refuse_point(w0: object) -> None:
    if not isinstance(w0, torch.Tensor):
        raise InputRefused(f"w0 must be a torch tensor, got {type(w0).__name__}; use torch.as_tensor")
    if w0.ndim != 1 or w0.numel() == 0:
        raise InputRefused(f"w0 must be a flat vector (n,) with n ≥ 1, got shape {tuple(w0.shape)}; use w0.reshape(-1)")
    if w0.dtype not in {torch.float32, torch.float64}:
        raise InputRefused(f"w0 must be float64 or float32, got {w0.dtype}; use w0.double()")
    bad = int((~torch.isfinite(w0)).sum())
    if bad:
        raise InputRefused(f"w0 must be finite, got {bad} nan or inf entries of {w0.numel()}; start from another point")


def _accept_blocks(blocks: Sequence[int] | None, n: int) -> tuple[int, ...]:
    accepted = (n,) if blocks is None else tuple(blocks)
    if sum(accepted) != n or min(accepted, default=0) < 1:
        raise InputRefused(f"blocks must be positive and sum to n = {n}, got {accepted}; leave it out for one block")
    return accepted


def _refuse_loss(loss: Callable[[Tensor], Tensor], w0: Tensor, name: str) -> None:
    first, gradient, dependent = w0.new_zeros(()), torch.zeros_like(w0), False
    for term in terms_of(loss):
        leaf, value = on_leaf(term, w0)
        _refuse_value(value, w0, name)
        if value.requires_grad:
            part = torch.autograd.grad(value, leaf, allow_unused=True)[0]
            dependent |= part is not None
            gradient = gradient if part is None else gradient + part
        first = first + value.detach()
    if not dependent:
        raise InputRefused(
            f"{name} must depend on w, but its result has no gradient with respect to it; avoid detach, .data, .item() "
            f"and no_grad in the loss"
        )
    bad = int((~torch.isfinite(gradient)).sum())
    if bad:
        raise InputRefused(
            f"{name} must have a finite gradient at w0, got {bad} nan or inf entries of {w0.numel()}; start elsewhere"
        )
    with torch.no_grad():
        difference = abs(float(first) - float(loss(w0.clone())))
    eps = torch.finfo(w0.dtype).eps
    # Parallel sums on a GPU may differ by round-off.
    if difference > 1e3 * eps * max(abs(float(first)), math.sqrt(eps)):
        raise InputRefused(
            f"{name} must be deterministic, but two evaluations at w0 differ by {difference:.3g}; call module.eval(), "
            f"or fix the random numbers"
        )


def _refuse_value(value: Tensor, w0: Tensor, name: str) -> None:
    refuse_other_than_scalar(value, name)
    if value.dtype != w0.dtype:
        raise InputRefused(f"{name} must return the dtype of w0, {w0.dtype}, got {value.dtype}; convert the data or w0")
    if value.device != w0.device:
        raise InputRefused(
            f"{name} must return a result on the device of w0, {w0.device}, got {value.device}; move the data or w0"
        )
    if not bool(torch.isfinite(value)):
        raise InputRefused(f"{name} must be finite at w0, got {float(value.detach()):.4g}; start from another point")


def _accept_module(module: object, data: object) -> tuple[nn.Module, Any, Any]:
    if not isinstance(module, nn.Module):
        raise InputRefused(
            f"module must be a torch.nn.Module, got {type(module).__name__}; use Problem(loss, w0) instead"
        )
    if not (isinstance(data, tuple | list) and len(data) == 2):
        raise InputRefused(
            f"data must be a pair (inputs, targets), got {type(data).__name__}; pass the full batch as two"
        )
    return module, data[0], data[1]


def _accept_criterion(criterion: object) -> Criterion:
    if isinstance(criterion, str) and criterion in CRITERIA:
        return CRITERIA[criterion]
    if not callable(criterion):
        raise InputRefused(
            f"criterion must be {' or '.join(map(repr, CRITERIA))} or a function (outputs, targets) -> scalar, got "
            f"{criterion!r}; choose one of them"
        )
    accepted: Criterion = criterion
    return accepted
