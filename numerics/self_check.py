"""Compare autograd with finite differences of gradients before a run, and name the layer at fault.

Some torch layers have silently wrong third derivatives (`nn.LayerNorm` keeps its statistics as constants), others have
none (ReLU). Differences at several step sizes see both: a wrong formula disagrees at every step, a kink at all but the
smallest. The check is made in float64 where the loss can be evaluated there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel

from numerics.boundary import normal, seeded_generator
from numerics.derivatives import LocalDerivatives, evaluate
from numerics.errors import InputRefused
from numerics.ghost_batches import terms_of
from numerics.models.network import cast, describe

if TYPE_CHECKING:
    from torch import Tensor, nn

    from numerics.models.network import Network

Loss = Callable[[torch.Tensor], torch.Tensor]

# Step lengths, in w, and the largest accepted relative error, for each precision in which the check is made.
STEPS = {torch.float64: (0.03, 0.01, 0.003, 0.001, 0.0003), torch.float32: (0.1, 0.03, 0.01, 0.003)}
FALL = 15.0  # of the error from step to step; a smooth function's falls by 80 to 120 once the steps are short enough
TOLERANCE = {torch.float64: 1e-3, torch.float32: 3e-2}
NEARBY = 0.05
ROUND_OFF = 3.0  # of a difference of three gradients, in units of eps times the size of their terms

_SMOOTH = "a smooth activation such as GELU, SiLU or Tanh"
# Nodes of the autograd graph that are not twice continuously differentiable, and what to use instead.
KINKS = {
    "Abs": "a smooth penalty such as the squared error",
    "Celu": _SMOOTH,
    "Elu": _SMOOTH,
    "Hardshrink": _SMOOTH,
    "Hardsigmoid": _SMOOTH,
    "Hardswish": _SMOOTH,
    "Hardtanh": _SMOOTH,
    "Huber": "the squared error",
    "LeakyRelu": _SMOOTH,
    "Prelu": _SMOOTH,
    "Relu": _SMOOTH,
    "Rrelu": _SMOOTH,
    "SmoothL1": "the squared error",
    "Softshrink": _SMOOTH,
    "Threshold": _SMOOTH,
    "MaxPool": "average pooling",
    "AdaptiveMaxPool": "average pooling",
    "FractionalMaxPool": "average pooling",
}
# Nodes whose third derivatives are wrong in some compositions, or missing.
SUSPECTS = {
    "NativeLayerNorm": "numerics.models.LayerNorm",
    "NativeBatchNorm": "GroupNorm",
    "CudnnBatchNorm": "GroupNorm",
    "ScaledDotProduct": "torch.nn.attention.sdpa_kernel(SDPBackend.MATH)",
    "Clamp": "a smooth function",
    "Maximum": "a smooth function",
    "Minimum": "a smooth function",
    "Where": "a smooth function",
}
REPLACEMENTS = {
    "LayerNorm": "numerics.models.LayerNorm (numerics.models.safe puts it in)",
    "BatchNorm": "GroupNorm",
    "InstanceNorm": "GroupNorm",
    "MultiheadAttention": "numerics.models.safe, which takes plain operations",
    "Transformer": "numerics.models.safe, which puts in numerics.models.LayerNorm",
    "Dropout": "module.eval()",
    "MaxPool": "average pooling",
}
_KINKED = ("ReLU", "LeakyReLU", "PReLU", "RReLU", "ELU", "CELU", "SELU", "Hardtanh", "Hardshrink", "Softshrink")
REPLACEMENTS |= dict.fromkeys(_KINKED, _SMOOTH)


class Errors(NamedTuple):
    """Largest relative disagreement of ∇L, H u and ∇H[u, u] with differences."""

    gradient: float = 0.0
    hessian: float = 0.0
    third: float = 0.0


@dataclass(frozen=True)
class CheckReport:
    """What the self-check found.

    Attributes:
        ok: whether the derivatives can be used.
        message: one sentence if not ok, else empty.
        errors: relative disagreements with finite differences.
        tolerance: the largest accepted one.
        dtype: precision in which the check was made.
        culprits: layers or operations at fault, such as `layers.1 (LayerNorm)`.
    """

    ok: bool
    message: str
    errors: Errors
    tolerance: float
    dtype: torch.dtype
    culprits: tuple[str, ...] = ()

    def require(self) -> None:
        """Let a good problem pass.

        Raises:
            InputRefused: with the message, unless ok.
        """
        if not self.ok:
            raise InputRefused(self.message)


class _Finding(NamedTuple):
    """The outcome for one function: the errors, or why it has none."""

    errors: Errors
    reason: str
    nodes: frozenset[str]


def check_derivatives(loss: Loss, w0: Tensor, name: str, network: Network | None, seed: int) -> CheckReport:
    """Return the report on a loss at w0 and at a random point nearby; if it fails, its layers are searched."""
    w = _most_precise(loss, w0)
    blocks = network.blocks if network else (w.numel(),)
    finding = _examine(loss, w, blocks, seed)
    tolerance = TOLERANCE[w.dtype]
    if not finding.reason:
        return CheckReport(True, "", finding.errors, tolerance, w.dtype)
    culprits, advice = _locate(network, w, seed) if network else ((), "")
    if not culprits:
        culprits, advice = _suspects(finding.nodes, network)
    where = ", ".join(culprits) or "no known layer or operation at fault"
    message = (
        f"{name} must be three times differentiable by autograd, but {finding.reason} (found: {where}); use "
        f"{advice or 'smooth operations with correct derivatives'} instead"
    )
    return CheckReport(False, message, finding.errors, tolerance, w.dtype, culprits)


def _most_precise(loss: Loss, w0: Tensor) -> Tensor:
    """Return w0 in float64 if the loss can be evaluated there, else w0."""
    try:
        double = loss(w0.double())
    except (RuntimeError, TypeError, ValueError):
        return w0
    return w0.double() if double.dtype == torch.float64 else w0


def _examine(loss: Loss, w: Tensor, blocks: tuple[int, ...], seed: int) -> _Finding:
    nodes = graph_nodes(loss, w)
    kinks = sorted(k for k in KINKS if any(_is_node(n, k) for n in nodes))
    if kinks:
        reason = f"it uses {', '.join(kinks).lower()}, which is not twice continuously differentiable"
        return _Finding(Errors(), reason, nodes)
    generator = seeded_generator(seed)
    try:
        per_point = [_errors_at(loss, point, blocks, generator) for point in (w, _nearby(w, blocks, generator))]
    except RuntimeError as error:
        return _Finding(Errors(), f"autograd failed with “{_first_line(error)}”", nodes)
    errors = Errors(*(max(values) for values in zip(*per_point, strict=True)))
    return _Finding(errors, _reason(errors, TOLERANCE[w.dtype]), nodes)


def _reason(errors: Errors, tolerance: float) -> str:
    for order, error in zip(("first", "second", "third"), errors, strict=True):
        if not error <= tolerance:
            return f"its {order} derivatives differ from finite differences by {100 * error:.3g} %"
    return ""


def _first_line(error: BaseException) -> str:
    return str(error).split("\n", maxsplit=1)[0][:120]


def _balanced(w: Tensor, blocks: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Return a random direction with norm 1 in every block, so that small tensors are not drowned by large ones."""
    pieces = torch.split(normal((w.numel(),), generator, w), list(blocks))
    return torch.cat([piece / piece.norm() for piece in pieces])


def _nearby(w: Tensor, blocks: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Return w with every block moved by 5 % of its norm."""
    norms = torch.cat([piece.norm().expand(len(piece)) for piece in torch.split(w, list(blocks))])
    return w + NEARBY * torch.where(norms > 0, norms, 1.0) * _balanced(w, blocks, generator)


def _errors_at(loss: Loss, w: Tensor, blocks: tuple[int, ...], generator: torch.Generator) -> Errors:
    """Return the worst errors along a random direction and one mixed with the gradient, where curvature is large."""
    local = LocalDerivatives(loss, w)
    norm = local.grad.norm()
    random = _balanced(w, blocks, generator)
    mixed = _balanced(w, blocks, generator) / len(blocks) ** 0.5
    if norm > 0:
        mixed = mixed + local.grad / norm
    along = [_errors_along(loss, local, u / u.norm()) for u in (random, mixed)]
    return Errors(*(max(values) for values in zip(*along, strict=True)))


def _errors_along(loss: Loss, local: LocalDerivatives, u: Tensor) -> Errors:
    first, Hu = local.grad @ u, local.hessian_product(u[:, None])[:, 0]
    third = local.third(u[:, None], "exact")[0, 0]
    by_step: list[tuple[float, tuple[Tensor, ...]]] = []
    for step in STEPS[u.dtype]:
        try:
            (loss_plus, plus), (loss_minus, minus) = (evaluate(loss, local.w + s * step * u) for s in (1, -1))
        except FloatingPointError:
            continue
        differences = (
            (loss_plus - loss_minus) / (2 * step),
            (plus - minus) / (2 * step),
            ((plus - local.grad) + (minus - local.grad)) / step**2,
        )
        by_step.append((step, differences))
    errors: list[list[float]] = [[], [], []]
    for longer, shorter in pairwise(by_step):
        compared = zip(_extrapolated(longer, shorter), (first, Hu, third), _floors(local, Hu, shorter[0]), strict=True)
        for found, (difference, exact, floor) in zip(errors, compared, strict=True):
            found.append(_relative(difference, exact, floor))
    return Errors(*map(_consistent, errors))


def _floors(local: LocalDerivatives, Hu: Tensor, step: float) -> tuple[Tensor, Tensor, Tensor]:
    """Return the sizes below which derivatives of each order count as zero: round-off in the last is within the tolerance."""
    eps, norm = torch.finfo(Hu.dtype).eps, local.grad.norm()
    terms = norm + Hu.norm() * (1 + local.w.norm())  # the size of what cancels in a gradient
    return (
        1e-3 * norm,
        eps**0.5 * norm,
        eps**0.5 * (norm + Hu.norm()) + ROUND_OFF * eps * terms / step**2 / TOLERANCE[Hu.dtype],
    )


def _extrapolated(
    longer: tuple[float, tuple[Tensor, ...]], shorter: tuple[float, tuple[Tensor, ...]]
) -> tuple[Tensor, ...]:
    """Return differences at two steps without their error in step²: a smooth function may bend much within a step."""
    weight = 1 / ((longer[0] / shorter[0]) ** 2 - 1)
    return tuple(b + weight * (b - a) for a, b in zip(longer[1], shorter[1], strict=True))


def _consistent(errors: list[float]) -> float:
    """Return the error that is left when it falls from step to step as a smooth function's does.

    The best step is left out, because a kink may lie out of its reach; at the longer steps a kink shows.
    """
    return max((e / FALL**i for i, e in enumerate(sorted(errors)[1:])), default=float("inf"))


def _relative(difference: Tensor, exact: Tensor, floor: Tensor) -> float:
    scale = torch.maximum(torch.maximum(difference.norm(), exact.norm()), floor)
    return float((difference - exact).norm() / scale) if scale > 0 else 0.0


def graph_nodes(loss: Loss, w: Tensor) -> frozenset[str]:
    """Return the names of the operations that the loss applies to w, as autograd records them."""
    with torch.enable_grad():
        # Ghost batches go through the same operations.
        value = terms_of(loss)[0](w.detach().clone().requires_grad_(True))
    names: set[str] = set()
    seen: set[Any] = set()
    stack: list[Any] = [value.grad_fn]
    while stack:
        node = stack.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        names.add(node.name())
        stack += [parent for parent, _ in node.next_functions]
    return frozenset(names)


def _is_node(name: str, prefix: str) -> bool:
    return name.startswith(prefix)


def _suspects(nodes: frozenset[str], network: Network | None) -> tuple[tuple[str, ...], str]:
    """Return layers, else operations, that are known for wrong derivatives, when none failed alone."""
    found = [(key.lower(), r) for key, r in KINKS.items() if any(_is_node(n, key) for n in nodes)]
    if not found and network is not None:
        found = [(describe(m, name), r) for name, m in network.module.named_modules() if (r := _replacement(m))]
    if not found:
        found = [(key, r) for key, r in SUSPECTS.items() if any(_is_node(n, key) for n in nodes)]
    return tuple(name for name, _ in found), " or ".join(dict.fromkeys(r for _, r in found))


def _replacement(layer: nn.Module) -> str:
    """Return what to use in place of a layer, or nothing if its kind is not known for trouble."""
    if not type(layer).__module__.startswith("torch."):
        return ""
    kind = type(layer).__name__.removeprefix("Adaptive")
    return next((r for key, r in REPLACEMENTS.items() if kind.startswith(key)), "")


def _locate(network: Network, w: Tensor, seed: int) -> tuple[tuple[str, ...], str]:
    """Return the innermost layers that fail the check alone, on the inputs they receive at w."""
    failing: dict[str, tuple[nn.Module, frozenset[str]]] = {}
    for name, (layer, args, kwargs) in _recorded_inputs(network, w).items():
        alone = _layer_function(layer, args, kwargs, w.dtype)
        if alone is None:
            continue
        finding = _examine(*alone, seed)
        if finding.reason:
            failing[name] = (layer, finding.nodes)
    inner = {n: f for n, f in failing.items() if not any(m.startswith(f"{n}.") for m in failing)}
    advice = dict.fromkeys(_replacement(layer) or _suspects(nodes, None)[1] for layer, nodes in inner.values())
    return tuple(describe(layer, n) for n, (layer, _) in inner.items()), " or ".join(a for a in advice if a)


_Call = tuple["nn.Module", tuple[Any, ...], dict[str, Any]]


def _recorded_inputs(network: Network, w: Tensor) -> dict[str, _Call]:
    """Return the arguments with which every layer but the outermost is called first in a forward pass."""
    calls: dict[str, _Call] = {}
    handles = []
    for name, layer in network.module.named_modules():

        def record(layer: nn.Module, args: Any, kwargs: Any, name: str = name) -> None:
            calls.setdefault(name, (layer, args, kwargs))

        if name:
            handles.append(layer.register_forward_pre_hook(record, with_kwargs=True))
    try:
        with torch.no_grad():
            network.outputs(w)
    finally:
        for handle in handles:
            handle.remove()
    return calls


def _layer_function(
    layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], dtype: torch.dtype
) -> tuple[Loss, Tensor, tuple[int, ...]] | None:
    """Return a scalar function of a layer's inputs and parameters together, the point and its blocks, if possible."""
    inputs = {i: a for i, a in enumerate(args) if isinstance(a, torch.Tensor) and a.is_floating_point()}
    named = dict(layer.named_parameters())
    tensors = [t.detach().to(dtype) for t in (*inputs.values(), *named.values())]
    buffers = {n: cast(b, dtype) for n, b in layer.named_buffers() if b.is_floating_point()}
    if not tensors:
        return None
    blocks = tuple(t.numel() for t in tensors)

    def function(z: Tensor) -> Tensor:
        pieces = [p.view(t.shape) for p, t in zip(torch.split(z, list(blocks)), tensors, strict=True)]
        replaced = dict(zip(inputs, pieces, strict=False))
        full = tuple(replaced.get(i, cast(a, dtype)) for i, a in enumerate(args))
        parameters = dict(zip(named, pieces[len(inputs) :], strict=True))
        with sdpa_kernel(SDPBackend.MATH):
            return _projection(functional_call(layer, {**parameters, **buffers}, full, cast(kwargs, dtype)))

    z = torch.cat([t.reshape(-1) for t in tensors])
    try:
        return (function, z, blocks) if function(z.clone().requires_grad_(True)).requires_grad else None
    except (RuntimeError, TypeError, ValueError):
        return None


def _projection(outputs: Any) -> Tensor:
    """Return ⟨r, y⟩ + ½⟨y, y⟩ over all floating outputs y, with fixed irregular weights r, averaged."""
    if isinstance(outputs, torch.Tensor):
        y = outputs.reshape(-1)
        r = torch.cos(torch.arange(y.numel(), device=y.device, dtype=y.dtype).square())
        return (r * y + y.square() / 2).mean()
    parts = [_projection(y) for y in outputs if isinstance(y, torch.Tensor) and y.is_floating_point()]
    return torch.stack(parts).sum()
