"""A torch module with its data as a function of one flat parameter vector."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel

from numerics.errors import InputRefused
from numerics.ghost_batches import (
    SummedLoss,
    batches,
    beside,
    map_tensors,
    mean_tolerance,
    refuse_other_than_scalar,
    take,
)
from numerics.models.losses import refuse_non_finite, refuse_targets

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from numerics.models.losses import Criterion


@dataclass(frozen=True)
class Network:
    """f(w) = module(inputs) with the parameters read from w, in the order of `module.named_parameters()`.

    The module is referred to, not copied, and its own parameters are not changed. With a `ghost_batch` the objective is a sum
    over batches of at most so many examples.
    """

    module: nn.Module
    inputs: Any
    targets: Any
    criterion: Criterion
    ghost_batch: int | None = None

    def __post_init__(self) -> None:
        """Refuse (InputRefused, naming the layer) what cannot be a smooth deterministic function of the parameters."""
        refuse_parameters(self.module, self.inputs)
        refuse_training_mode(self.module)
        refuse_non_finite("inputs", self.inputs)
        refuse_non_finite("targets", self.targets)
        _refuse_unreadable(self)
        refuse_changing_buffers(self)

    @property
    def flat(self) -> Float[Tensor, " n"]:
        """The module's present parameters as one new vector."""
        return torch.cat([p.detach().reshape(-1) for p in self.module.parameters()])

    @property
    def blocks(self) -> tuple[int, ...]:
        """Sizes of the parameter tensors."""
        return tuple(p.numel() for p in self.module.parameters())

    def unflatten(self, w: Float[Tensor, " n"]) -> dict[str, Tensor]:
        """Return views of w with the names and shapes of the module's parameters."""
        named = dict(self.module.named_parameters())
        pieces = torch.split(w, list(self.blocks))
        return {name: piece.view(p.shape) for (name, p), piece in zip(named.items(), pieces, strict=True)}

    def outputs(self, w: Float[Tensor, " n"]) -> Any:
        """Return f(w). Attention uses the plain kernel, the only one with second derivatives."""
        with sdpa_kernel(SDPBackend.MATH):
            return functional_call(self.module, self.arguments(w), (cast(self.inputs, w.dtype),))

    def loss(self, w: Float[Tensor, " n"]) -> Tensor:
        """Return the criterion of f(w) and the targets."""
        return self.criterion(self.outputs(w), cast(self.targets, w.dtype))

    @property
    def sample(self) -> tuple[Any, Any]:
        """Inputs and targets of the first ghost batch."""
        both = (self.inputs, self.targets)
        return both if self.ghost_batch is None else take(both, batches(both, self.ghost_batch)[0])

    def objective(self, name: str = "loss") -> Callable[[Tensor], Tensor]:
        """Return the loss in the form whose derivatives are to be taken: whole, or as a sum over ghost batches.

        Raises:
            InputRefused: for a criterion or a layer with which the loss is not a mean over examples.
        """
        ranges = [] if self.ghost_batch is None else batches((self.inputs, self.targets), self.ghost_batch)
        if len(ranges) < 2:
            return self.loss
        error = self.mean_error(ranges, beside(self.flat), name)
        if not error <= mean_tolerance(self.flat.dtype):
            raise InputRefused(
                f"with ghost batches the loss must be a mean over examples, but {name} of two batches differs from the mean of "
                f"their own by {error:.1e}, relatively; use such a criterion and no layer that mixes examples, or leave "
                f"ghost_batch out"
            )
        return SummedLoss(tuple(self._share(examples, ranges[-1].stop) for examples in ranges))

    def mean_error(self, ranges: Sequence[slice], w: Float[Tensor, " n"], name: str = "loss") -> float:
        """Return by how much the loss on two adjoining ranges of examples differs from the mean of its two values.

        Args:
            ranges: of examples, at least two, each beginning where the one before ends.
            w: where the loss is evaluated.
            name: how messages call the loss.

        Returns:
            The largest difference, relative to the size of the loss.

        Raises:
            InputRefused: if the loss is not a scalar.
        """
        errors = []
        with torch.no_grad():
            values = [self.part(examples).loss(w) for examples in ranges]
            refuse_other_than_scalar(values[0], name)
            for (a, b), (value_a, value_b) in zip(pairwise(ranges), pairwise(values), strict=True):
                whole = self.part(slice(a.start, b.stop)).loss(w)
                share = (a.stop - a.start) / (b.stop - a.start)
                mean = share * value_a + (1 - share) * value_b
                # Not |mean|: two values of opposite sign leave no more than their round-off.
                size = torch.maximum(whole.abs(), share * value_a.abs() + (1 - share) * value_b.abs())
                errors.append((whole - mean).abs() / size.clamp(min=torch.finfo(w.dtype).tiny))
        return float(torch.stack(errors).max())  # nan, should there be one

    def part(self, examples: slice) -> Network:
        """Return the same network with some of the examples."""
        inputs, targets = take((self.inputs, self.targets), examples)
        return replace(self, inputs=inputs, targets=targets)

    def _share(self, examples: slice, total: int) -> Callable[[Tensor], Tensor]:
        """Return the part of the loss that comes from some of `total` examples."""
        part, weight = self.part(examples), (examples.stop - examples.start) / total
        return lambda w: weight * part.loss(w)

    def to(self, device: torch.device, dtype: torch.dtype) -> Network:
        """Return the same network with a copy of the module, and the data, on another device and in another precision."""
        module = copy.deepcopy(self.module).to(device=device, dtype=dtype)
        inputs, targets = (cast(value, dtype, device) for value in (self.inputs, self.targets))
        return replace(self, module=module, inputs=inputs, targets=targets)

    def arguments(self, w: Float[Tensor, " n"]) -> dict[str, Tensor]:
        """Return parameters from w, and the module's buffers where w has another precision than they."""
        buffers = {name: cast(b, w.dtype) for name, b in self.module.named_buffers() if b.is_floating_point()}
        return {**self.unflatten(w), **buffers}


def cast(value: Any, dtype: torch.dtype, device: torch.device | None = None) -> Any:
    """Return floating tensors in that precision and all tensors on that device, and everything else as it is."""
    return map_tensors(lambda x: x.to(device=device, dtype=dtype if x.is_floating_point() else None), value)


def describe(module: nn.Module, name: str) -> str:
    """Return a layer's name and type: `layers.1 (LayerNorm)`."""
    return f"{name or 'the module'} ({type(module).__name__})"


def refuse_parameters(module: nn.Module, inputs: Any) -> None:
    """Refuse parameters that do not form one differentiable vector beside the inputs.

    Raises:
        InputRefused: for no parameters, frozen ones, mixed dtypes, or another device or dtype than the inputs.
    """
    named = dict(module.named_parameters())
    if not named:
        raise InputRefused(f"module must have parameters, got a {type(module).__name__} without any; pass another one")
    frozen = [name for name, p in named.items() if not p.requires_grad]
    if frozen:
        raise InputRefused(
            f"every parameter must require grad, but {', '.join(frozen)} does not; call requires_grad_(True), or "
            f"register it as a buffer if it is a constant"
        )
    first_name, first = next(iter(named.items()))
    for name, p in named.items():
        if (p.dtype, p.device) != (first.dtype, first.device):
            raise InputRefused(
                f"parameters must share one dtype and device, but {first_name} is {first.dtype} on {first.device} and "
                f"{name} is {p.dtype} on {p.device}; call module.to(device, dtype)"
            )
    if isinstance(inputs, torch.Tensor):
        _refuse_other_place(inputs, first)


def _refuse_other_place(inputs: Tensor, like: Tensor) -> None:
    if inputs.device != like.device:
        raise InputRefused(
            f"module and data must be on one device, but the parameters are on {like.device} and the inputs on "
            f"{inputs.device}; move one of them with .to(device)"
        )
    if inputs.is_floating_point() and inputs.dtype != like.dtype:
        raise InputRefused(
            f"module and data must have one dtype, but the parameters are {like.dtype} and the inputs {inputs.dtype}; "
            f"convert one of them with .to(dtype)"
        )


def refuse_training_mode(module: nn.Module) -> None:
    """Refuse layers whose training mode is random or depends on the batch's statistics.

    Raises:
        InputRefused: naming the layer.
    """
    for name, layer in module.named_modules():
        if not layer.training:
            continue
        if isinstance(layer, nn.modules.dropout._DropoutNd) and layer.p > 0:
            raise InputRefused(
                f"the loss must be deterministic, but {describe(layer, name)} drops units at random in training mode; "
                f"call module.eval() or set its p to 0"
            )
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):
            raise InputRefused(
                f"the loss must be a fixed smooth function, but {describe(layer, name)} uses batch statistics in "
                f"training mode, whose third derivatives are wrong in autograd; call module.eval() or use GroupNorm"
            )


def _refuse_unreadable(network: Network) -> None:
    """Refuse inputs that the module fails on, and targets that do not fit its outputs.

    Raises:
        InputRefused: with what the module raised.
    """
    copies = {name: b.clone() for name, b in network.module.named_buffers()}
    inputs, targets = network.sample
    try:
        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
            outputs = functional_call(network.module, {**network.unflatten(network.flat), **copies}, (inputs,))
    except (RuntimeError, TypeError, ValueError, IndexError) as error:
        shape = f" of shape {tuple(inputs.shape)}" if isinstance(inputs, torch.Tensor) else ""
        first = str(error).split("\n", maxsplit=1)[0]
        raise InputRefused(
            f"the module must accept the inputs{shape} as its one argument, but it raised {type(error).__name__}: "
            f"“{first}”; reshape the inputs or change the module"
        ) from error
    refuse_targets(network.criterion, outputs, targets)


def refuse_changing_buffers(network: Network) -> None:
    """Refuse a module that changes its buffers when it is evaluated.

    Raises:
        InputRefused: naming the buffers.
    """
    before = dict(network.module.named_buffers())
    if not before:
        return
    copies = {name: b.clone() for name, b in before.items()}
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        functional_call(network.module, {**network.unflatten(network.flat), **copies}, (network.sample[0],))
    changed = [name for name, b in before.items() if not torch.equal(b, copies[name])]
    if changed:
        raise InputRefused(
            f"evaluating the module must not change its buffers, but the forward pass changed {', '.join(changed)}; "
            f"call module.eval() or remove the running statistics"
        )
