r"""A loss as a sum of terms over parts of the examples, L = ∑_c L_c: derivatives are accumulated term by term.

Everything that is linear in L (value, gradient, Hessian products, third derivatives) is the sum of what its terms give, so
that only one term's graph needs to be in memory at a time. Parts are *ghost batches*: no average changes, only the memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from operator import index
from typing import TYPE_CHECKING, Any, SupportsIndex

import torch

from numerics.boundary import normal, seeded_generator
from numerics.errors import InputRefused

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import Tensor

    Loss = Callable[[Tensor], Tensor]


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
    count = count_examples(data, "ghost batches")
    number = -(-count // _accept_size(size))
    bounds = [count * b // number for b in range(number + 1)]
    return [slice(*pair) for pair in pairwise(bounds)]


def _accept_size(size: object) -> int:
    accepted = index(size) if isinstance(size, SupportsIndex) and not isinstance(size, bool) else 0
    if accepted < 1:
        raise InputRefused(f"ghost_batch must be an integer ≥ 1 (examples per batch), got {size!r}; or leave it out")
    return accepted


def count_examples(data: Any, who: str) -> int:
    """Return the length of the first axis that all tensors in the data have in common.

    Raises:
        InputRefused: there is none; `who` (in the plural) needs it.
    """
    lengths: set[int] = set()

    def measure(x: Tensor) -> Tensor:
        lengths.add(len(x) if x.ndim else 0)
        return x

    map_tensors(measure, data)
    if len(lengths) != 1 or 0 in lengths:
        raise InputRefused(
            f"{who} need inputs and targets with one first axis in common, the examples, got lengths {sorted(lengths)}; "
            f"reshape the data, or do without {who}"
        )
    return lengths.pop()


def take(data: Any, examples: slice) -> Any:
    """Return those examples of every tensor in the data."""
    return map_tensors(lambda x: x[examples], data)


def map_tensors(change: Callable[[Tensor], Tensor], value: Any) -> Any:
    """Return the value with its tensors changed, also those in tuples, lists and dicts."""
    if isinstance(value, torch.Tensor):
        return change(value)
    if isinstance(value, tuple | list):
        parts = [map_tensors(change, v) for v in value]
        return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
    if isinstance(value, dict):
        return {k: map_tensors(change, v) for k, v in value.items()}
    return value


def beside(w: Tensor) -> Tensor:
    """Return a point near w, always the same: at a starting point a loss may look simpler than it is, as with weights of 0."""
    size = float(w.norm()) / len(w) ** 0.5 or 1.0
    return w + 0.05 * size * normal((len(w),), seeded_generator(0), w)


def mean_tolerance(dtype: torch.dtype) -> float:
    """Return by how much, relatively, a mean over examples may differ from that of its parts: round-off with a wide margin."""
    return 1e-9 if dtype == torch.float64 else 1e-4


def refuse_other_than_scalar(value: object, name: str) -> None:
    """Refuse what is no loss.

    Raises:
        InputRefused: if it is not a tensor without axes.
    """
    if not isinstance(value, torch.Tensor):
        raise InputRefused(f"{name} must return a scalar tensor, got {type(value).__name__}; leave out .item()")
    if value.ndim:
        raise InputRefused(
            f"{name} must return a scalar, got shape {tuple(value.shape)}; end it with .mean() or .sum()"
        )
