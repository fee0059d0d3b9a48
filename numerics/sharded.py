"""One problem shared by several processes, each of which holds some of the examples.

A loss that is a mean over examples is L = ∑_r (n_r/N) L_r over shards r with n_r of the N examples, and so are its gradient,
Hessian products and third derivatives. Every process evaluates its own term and torch.distributed adds them up, so that all
processes see the same numbers and make the same run side by side; the one of rank 0 leads: it alone records and reports.

Nothing else in the package knows of processes: here is a `Problem` like any other. `torchrun` starts the processes.
"""

from __future__ import annotations

import math
import os
import signal
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import distributed as dist

from numerics.derivatives import NonFiniteLoss, ThirdMethod, require_finite
from numerics.errors import InputRefused
from numerics.ghost_batches import beside, count_examples, mean_tolerance
from numerics.problem import CheckReport, Problem

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from numerics.models.network import Network

T = TypeVar("T")

__all__ = ["RankLost", "ShardedDerivatives", "ShardedProblem", "launched", "process_group", "shard"]


class RankLost(RuntimeError):
    """Raised with one sentence on every process that is left when one of them ended."""


def launched() -> bool:
    """Whether this process is one of several that `torchrun` started together."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def local_device(kind: str) -> str:
    """Return the device of this process: of several graphics cards in a machine each process takes its own."""
    return f"cuda:{os.environ.get('LOCAL_RANK', '0')}" if kind == "cuda" and launched() else kind


@contextmanager
def process_group(device: torch.device) -> Generator[None, None, None]:
    """Join the processes that `torchrun` started for as long as the block runs (NCCL between graphics cards, else gloo).

    Yields:
        Nothing. When the launcher ends this process, as it does once another one has died, RankLost is raised in the block.
    """
    if device.type == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    previous = signal.signal(signal.SIGTERM, _ended)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
    dist.destroy_process_group()  # after a loss it could wait for the lost


def _ended(number: int, frame: object) -> None:
    raise RankLost(_loss_of("the launcher ended this one"))


def _loss_of(why: str) -> str:
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the launcher's next move must not cut the last records short
    return (
        f"a process of this run was lost, noticed by rank {dist.get_rank()} ({why}); all that was committed is kept, so start "
        "the same command again with --resume"
    )


def shard(problem: Problem) -> ShardedProblem:
    """Share a problem that every process has made alike: each goes on with its own, nearly equal part of the examples.

    Args:
        problem: made by `Problem.from_module`; its loss must be a mean over the first axis of inputs and targets.

    Returns:
        The same problem with its sums spread over the processes. Where the data are too large for one process, make a problem
        of each process's own rows and call `ShardedProblem` on it.

    Raises:
        InputRefused: the problem has no examples, or too few, or is no mean over them.
    """
    network = _require_network(problem)
    ranks, rank = dist.get_world_size(), dist.get_rank()
    count = _examples(network)
    if count < ranks:
        raise InputRefused(
            f"{ranks} processes need an example each, and there are {count} examples; start fewer processes"
        )
    rows = slice(rank * count // ranks, (rank + 1) * count // ranks)
    return ShardedProblem(Problem._of(network.part(rows), problem.name, problem.settings))


class ShardedProblem(Problem):
    """The full-batch problem, of which this process holds some examples; all processes must make the same calls.

    `outputs` are those of this process's examples; `loss` has no graph, as `linearise` has all derivatives.
    """

    def __init__(self, local: Problem) -> None:
        """Share the problem of this process's own examples; the starting point is the leading process's."""
        network = _require_network(local)
        self._local, self._network = local, network
        self.n, self.blocks, self.name, self.settings = local.n, local.blocks, local.name, local.settings
        self.device, self.dtype, self.loss = local.device, local.dtype, self.value
        self.leads = dist.get_rank() == 0
        self._weight = 1.0
        count = float(_examples(network))
        self._weight = count / float(self.total(local.w0.new_full((1,), count)))
        self.w0 = local.w0.clone()
        _together(lambda: dist.broadcast(self.w0, 0))
        _refuse_other_than_mean(self, network)

    def total(self, x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Return ∑_r (n_r/N) x_r, the same on every process."""
        weighted = (self._weight * x).contiguous()
        _together(lambda: dist.all_reduce(weighted))
        return weighted

    def value(self, w: Float[Tensor, " n"]) -> Float[Tensor, ""]:
        """See Problem."""
        value = self.total(_or_nan(lambda: self._local.value(w), w.new_zeros(())))
        require_finite(self.name, w, value, torch.zeros_like(w))
        return value

    def gradient(self, w: Float[Tensor, " n"]) -> tuple[Float[Tensor, ""], Float[Tensor, " n"]]:
        """See Problem."""
        together = self.total(_or_nan(lambda: _joined(*self._local.gradient(w)), w.new_zeros(self.n + 1)))
        require_finite(self.name, w, together[0], together[1:])
        return together[0], together[1:]

    def linearise(self, w: Float[Tensor, " n"]) -> Any:
        """See Problem; the derivatives have the interface of `LocalDerivatives`."""
        return ShardedDerivatives(self, self._local, w)

    def check(self, seed: int = 0) -> CheckReport:
        """See Problem: every process checks its own term, and one failure fails all."""
        report = self._local.check(seed)
        messages: list[Any] = [None] * dist.get_world_size()
        _together(lambda: dist.all_gather_object(messages, report.message))
        message = next(filter(None, messages), "")
        return replace(report, ok=not message, message=message)

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Problem:
        """See Problem."""
        return ShardedProblem(self._local.to(device, dtype))

    def on_leader(self, make: Callable[[], T]) -> T | None:
        """See Problem.

        Raises:
            InputRefused: on all processes, what the leading one refused.
        """
        made, refusal = None, ""
        if self.leads:
            try:
                made = make()
            except InputRefused as error:
                refusal = str(error)
        refusal = self.from_leader(refusal)
        if refusal:
            raise InputRefused(refusal)
        return made

    def from_leader(self, value: T) -> T:
        """See Problem."""
        box: list[Any] = [value]
        _together(lambda: dist.broadcast_object_list(box, 0, device=self.device))
        shared: T = box[0]
        return shared


class ShardedDerivatives:
    """Derivatives of the full-batch loss at one point; see `LocalDerivatives`, which evaluates this process's term."""

    def __init__(self, problem: ShardedProblem, local: Problem, w: Float[Tensor, " n"]) -> None:
        self._sum, self.w = problem.total, w.detach()
        terms: list[Any] = []

        def evaluate() -> Tensor:
            terms.append(local.linearise(w))
            return _joined(terms[0].loss, terms[0].grad)

        together = self._sum(_or_nan(evaluate, w.new_zeros(problem.n + 1)))
        self.loss, self.grad = together[0], together[1:]
        require_finite(problem.name, self.w, self.loss, self.grad)
        self._term = terms[0]

    def hessian_product(self, V: Float[Tensor, "n k"]) -> Float[Tensor, "n k"]:
        """Return H V."""
        return self._sum(self._term.hessian_product(V))

    def quick_hessian_product(self, V: Float[Tensor, "n k"]) -> Float[Tensor, "n k"]:
        """Return H V to a relative accuracy of about 1e-5."""
        return self._sum(self._term.quick_hessian_product(V))

    def third(
        self, U: Float[Tensor, "n k"], method: ThirdMethod = "auto", *, checked: bool = True
    ) -> Float[Tensor, "k k n"]:
        """Return T_ij = ∇H[u_i, u_j]; only the pairs i ≤ j travel."""
        T: Tensor = self._term.third(U, method, checked=checked)
        i, j = torch.triu_indices(len(T), len(T), device=T.device)
        T[i, j] = self._sum(T[i, j])
        T[j, i] = T[i, j]
        return T


def _joined(loss: Tensor, gradient: Tensor) -> Tensor:
    return torch.cat([loss.reshape(1), gradient])


def _or_nan(evaluate: Callable[[], Tensor], like: Tensor) -> Tensor:
    """Return this process's term, or NaN: the sum is not finite then, so that all processes stop and none waits."""
    try:
        return evaluate()
    except NonFiniteLoss:
        return torch.full_like(like, torch.nan)


def _together(operation: Callable[[], object]) -> None:
    """Do what all processes must do at once.

    Raises:
        RankLost: one of them did not.
    """
    try:
        operation()
    except RuntimeError as error:
        raise RankLost(_loss_of(str(error).split("\n", maxsplit=1)[0][:160].rstrip(". "))) from error


def _require_network(problem: Problem) -> Network:
    if problem._network is None:
        raise InputRefused(
            "several processes can share a loss that is a mean over examples of a module's data, but this problem was made "
            "from a bare loss; use Problem.from_module, or one process"
        )
    return problem._network


def _examples(network: Network) -> int:
    return count_examples((network.inputs, network.targets), "several processes")


def _refuse_other_than_mean(problem: ShardedProblem, network: Network) -> None:
    """Refuse, on all processes, a loss that is not ∑ (n_i/n) L_i over parts of this process's examples near w0.

    Raises:
        InputRefused: it is not.
    """
    count, error = _examples(network), 0.0
    if count > 1:
        cut = 1 + (count - 1) // 3
        error = network.mean_error([slice(0, cut), slice(cut, count)], beside(problem.w0))
    errors: list[Any] = [None] * dist.get_world_size()
    _together(lambda: dist.all_gather_object(errors, error))
    worst = max(errors, key=lambda e: (math.isnan(e), e))
    if not worst <= mean_tolerance(problem.dtype):
        raise InputRefused(
            f"several processes can share a loss that is a mean over examples, but {problem.name} differs from the mean of its "
            f"parts by {worst:.1e}, relatively; use such a criterion and no layer that mixes examples, or one process"
        )
