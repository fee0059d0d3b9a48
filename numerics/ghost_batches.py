r"""A loss as a sum of terms over parts of the examples, L = ∑_c L_c: derivatives are accumulated term by term.

Everything that is linear in L (value, gradient, Hessian products, third derivatives) is the sum of what its terms give, so
that only one term's graph needs to be in memory at a time. Parts are *ghost batches*: no average changes, only the memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch

from numerics.errors import InputRefused

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import Tensor

    Loss = Callable[[Tensor], Tensor]

# The criterion of two batches together and the mean over both may differ by this much, relative, in units of round-off.
ROUND_OFF = 1e4


@dataclass(frozen=True)
class SummedLoss:
    """L(w) = ∑_c L_c(w); called, it adds the terms up one by one."""

    terms: tuple[Loss, ...]

    def __call__(self, w: Tensor) -> Tensor:
        """Return L(w)."""
        first, *others = self.terms
        value = first(w)
        for term in others:
            value = value + term(w)
        return value


def terms_of(loss: Loss) -> tuple[Loss, ...]:
    """Return the terms of which a loss is the sum; a plain function is its own only term."""
    return loss.terms if isinstance(loss, SummedLoss) else (loss,)


def value_and_gradient(loss: Loss, w: Tensor) -> tuple[Tensor, Tensor]:
    """Return L(w) and ∇L(w), detached, with one term in memory at a time."""
    value, gradient = w.new_zeros(()), torch.zeros_like(w)
    for term in terms_of(loss):
        leaf, term_value = on_leaf(term, w)
        value = value + term_value.detach()
        gradient = gradient + pullback(term_value, leaf, None, keep=False)
    return value, gradient


def gradient_graphs(loss: Loss, w: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield for each term the leaf w and the term's gradient as a differentiable function of it."""
    for term in terms_of(loss):
        leaf, value = on_leaf(term, w)
        yield leaf, pullback(value, leaf, None, create_graph=True)


def on_leaf(loss: Loss, w: Tensor) -> tuple[Tensor, Tensor]:
    """Return a leaf with the value of w, and the loss on it with its graph."""
    with torch.enable_grad():
        leaf = w.detach().clone().requires_grad_(True)
        return leaf, loss(leaf)


def pullback(
    output: Tensor, leaf: Tensor, cotangent: Tensor | None, *, create_graph: bool = False, keep: bool = True
) -> Tensor:
    """Return (∂output/∂leaf)ᵀ cotangent; zero where the output does not depend on the leaf."""
    if not output.requires_grad:
        return torch.zeros_like(leaf)
    (result,) = torch.autograd.grad(
        output, leaf, cotangent, create_graph=create_graph, retain_graph=keep, materialize_grads=True
    )
    return result


def batches(data: tuple[Any, Any], size: int) -> list[slice]:
    """Return the ranges of the examples in batches of at most `size`, as equal as they can be.

    Args:
        data: (inputs, targets), tensors with one first axis in common, or tuples, lists and dicts of such.
        size: of a batch.

    Raises:
        InputRefused: if the size is not positive, or the tensors have no first axis in common.
    """
    if not isinstance(size, int) or isinstance(size, bool) or size < 1:
        raise InputRefused(f"ghost_batch must be an integer ≥ 1 (examples per batch), got {size!r}; or leave it out")
    lengths = {len(t) if t.ndim else 0 for t in _tensors(data)}
    if len(lengths) != 1 or 0 in lengths:
        raise InputRefused(
            f"ghost batches need inputs and targets with one first axis in common, the examples, got lengths "
            f"{sorted(lengths)}; reshape the data or leave ghost_batch out"
        )
    (count,) = lengths
    number = -(-count // size)
    bounds = [count * b // number for b in range(number + 1)]
    return [slice(*pair) for pair in pairwise(bounds)]


def take(data: Any, examples: slice) -> Any:
    """Return those examples of every tensor in the data."""
    if isinstance(data, torch.Tensor):
        return data[examples]
    if isinstance(data, tuple | list):
        return type(data)(take(part, examples) for part in data)
    return {key: take(part, examples) for key, part in data.items()} if isinstance(data, dict) else data


def refuse_criterion(whole: Tensor, mean: Tensor) -> None:
    """Refuse a criterion that is not a mean over examples.

    Args:
        whole: the criterion of two batches taken together.
        mean: the mean of the two batches' own, weighted by their sizes.

    Raises:
        InputRefused: if the two differ by more than round-off.
    """
    if not bool((whole - mean).abs() <= ROUND_OFF * torch.finfo(whole.dtype).eps * (1 + whole.abs())):
        raise InputRefused(
            f"with ghost batches the criterion must be a mean over examples, but two batches together give "
            f"{float(whole):.6g} and their mean is {float(mean):.6g}; use another criterion or leave ghost_batch out"
        )


def _tensors(data: Any) -> Iterator[Tensor]:
    if isinstance(data, torch.Tensor):
        yield data
    elif isinstance(data, tuple | list):
        for part in data:
            yield from _tensors(part)
    elif isinstance(data, dict):
        yield from _tensors(tuple(data.values()))
