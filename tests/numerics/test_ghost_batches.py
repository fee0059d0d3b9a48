"""Derivatives summed over ghost batches equal those of the whole batch."""

from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import nn

from derivations.cli.problems import build
from numerics import Problem, simulate
from numerics.errors import InputRefused
from numerics.ghost_batches import SummedLoss, batches
from numerics.models import CNN, MLP

F64 = torch.float64


def close(a, b):
    torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-14)


def pair(criterion="mse", size=4, count=11):
    """A problem whole and in batches."""
    module, targets = MLP((3, 4, 2)), torch.randn(count, 2, dtype=F64)
    if criterion == "cross_entropy":
        targets = targets.argmax(1)
    data = (torch.randn(count, 3, dtype=F64), targets)
    return Problem.from_module(module, data, criterion), Problem.from_module(module, data, criterion, ghost_batch=size)


@pytest.mark.parametrize("size", [1, 4, 10])
@pytest.mark.parametrize("criterion", ["mse", "cross_entropy"])
def test_derivatives_are_those_of_the_whole_batch(criterion, size):
    whole, parts = pair(criterion, size)
    assert len(parts.loss.terms) == -(-11 // size)
    V = torch.randn(whole.n, 3, dtype=F64)
    a, b = (p.linearise(p.w0) for p in (whole, parts))
    close(a.loss, b.loss)
    close(a.grad, b.grad)
    close(parts.value(parts.w0), b.loss)
    close(parts.gradient(parts.w0)[1], a.grad)
    close(a.hessian_product(V), b.hessian_product(V))
    close(a.third(V, "exact"), b.third(V, "exact"))
    # Differences amplify round-off, by 1/step and 1/step².
    torch.testing.assert_close(a.quick_hessian_product(V), b.quick_hessian_product(V), rtol=1e-7, atol=1e-7)
    torch.testing.assert_close(a.third(V, "differences"), b.third(V, "differences"), rtol=1e-5, atol=1e-5)


def test_convolutions_too():
    module, data = CNN((1, 2, 3)), (torch.randn(5, 64, dtype=F64), torch.randn(5, 10, dtype=F64))
    a, b = (Problem.from_module(module, data, "mse", ghost_batch=g) for g in (None, 2))
    u = torch.randn(a.n, 1, dtype=F64)
    close(a.linearise(a.w0).third(u, "exact"), b.linearise(b.w0).third(u, "exact"))


def test_only_one_batch_is_evaluated_at_a_time():
    sizes = []

    class Watched(MLP):
        def forward(self, x):
            sizes.append(len(x))
            return super().forward(x)

    data = (torch.randn(9, 3, dtype=F64), torch.randn(9, 2, dtype=F64))
    problem = Problem.from_module(Watched((3, 4, 2)), data, "mse", ghost_batch=3)
    sizes.clear()
    local = problem.linearise(problem.w0)
    local.hessian_product(torch.ones(problem.n, 2, dtype=F64))
    local.third(torch.ones(problem.n, 1, dtype=F64), "exact")
    problem.value(problem.w0)
    assert set(sizes) == {3} and len(sizes) == 12


def test_batches_cover_the_examples_evenly():
    data = (torch.zeros(10, 2), {"a": torch.zeros(10)})
    ranges = batches(data, 4)
    assert [r.stop - r.start for r in ranges] == [3, 3, 4] and ranges[-1].stop == 10


def test_a_batch_as_large_as_the_data_is_the_whole():
    assert not isinstance(pair(size=11)[1].loss, SummedLoss)


def test_the_self_check_and_a_run_work_on_batches():
    whole, parts = pair()
    assert parts.check().ok
    runs = [simulate(p, "gd", dict(lr=0.5), 8, processes=("discrete",)) for p in (whole, parts)]
    close(*(torch.as_tensor(r["discrete"].weights) for r in runs))


def test_a_problem_in_another_precision_keeps_its_batches():
    _, parts = pair()
    assert len(parts.to(dtype=torch.float32).loss.terms) == len(parts.loss.terms)


def test_settings_of_a_run_do_not_hold_the_batch():
    assert build(ghost_batch=50).settings == build().settings


class Sum(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, 2, dtype=F64)

    def forward(self, x):
        return self.linear(x[0] * x[1])


def test_inputs_in_tuples_are_split():
    data = ((torch.randn(6, 3, dtype=F64), torch.randn(6, 1, dtype=F64)), torch.randn(6, 2, dtype=F64))
    module = Sum()
    a, b = (Problem.from_module(module, data, "mse", ghost_batch=g) for g in (None, 4))
    close(a.gradient(a.w0)[1], b.gradient(b.w0)[1])


class Pair(NamedTuple):
    left: torch.Tensor
    right: torch.Tensor


def test_named_tuples_stay_what_they_are():
    class Named(Sum):
        def forward(self, x):
            return self.linear(x.left * x.right)

    data = (Pair(torch.randn(6, 3, dtype=F64), torch.randn(6, 1, dtype=F64)), torch.randn(6, 2, dtype=F64))
    module = Named()
    a, b = (Problem.from_module(module, data, "mse", ghost_batch=g) for g in (None, 4))
    close(a.gradient(a.w0)[1], b.gradient(b.w0)[1])


def test_the_size_may_be_any_integer():
    assert len(pair(size=np.int64(5))[1].loss.terms) == 3


class Centred(nn.Module):
    """A layer that mixes examples, which nothing shows of at weights of 0 after it."""

    def __init__(self):
        super().__init__()
        self.first, self.head = nn.Linear(3, 4, dtype=F64), nn.Linear(4, 2, dtype=F64)
        nn.init.zeros_(self.head.weight)

    def forward(self, x):
        h = self.first(x).tanh()
        return self.head(h - h.mean(0))


def zeroed(module):
    for p in module.parameters():
        nn.init.zeros_(p)
    return module


@pytest.mark.parametrize("module", [Centred(), zeroed(Centred())], ids=["head", "all"])
def test_a_layer_that_mixes_examples_is_refused_at_weights_of_zero(module):
    data = (torch.randn(16, 3, dtype=F64), torch.randn(16, 2, dtype=F64))
    with pytest.raises(InputRefused, match="no layer that mixes examples"):
        Problem.from_module(module, data, "mse", ghost_batch=4)


def test_a_sum_over_many_examples_is_refused_in_single_precision():
    data = (torch.randn(200, 3), 0.01 * torch.randn(200, 2))
    module = MLP((3, 4, 2)).float()
    with pytest.raises(InputRefused, match="mean over examples"):
        Problem.from_module(module, data, lambda f, y: 1e-3 * (f - y).square().sum(), ghost_batch=1)
    assert Problem.from_module(module, data, "mse", ghost_batch=1).check().ok


def test_values_that_cancel_are_no_error():
    x = torch.randn(8, 3, dtype=F64)
    data = (torch.cat([x, x]), torch.cat([torch.ones(8, dtype=F64), -torch.ones(8, dtype=F64)]))
    problem = Problem.from_module(MLP((3, 4, 2)), data, lambda f, y: (y * f.sum(1)).mean(), ghost_batch=8)
    assert len(problem.loss.terms) == 2


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (dict(ghost_batch=0), "integer ≥ 1"),
        (dict(ghost_batch=True), "integer ≥ 1"),
        (dict(criterion=lambda f, y: (f - y).square().mean(1)), r"must return a scalar, got shape \(.,\); end it with"),
        (dict(criterion=lambda f, y: float((f - y).square().mean())), "leave out .item"),
        (dict(ghost_batch=2.0), "integer ≥ 1"),
        (dict(data=(torch.zeros(5, 3, dtype=F64), torch.zeros(4, 2, dtype=F64))), "one first axis in common"),
        (dict(criterion=lambda f, y: (f - y).square().sum()), "mean over examples"),
    ],
)
def test_refusals(change, words):
    arguments = (
        dict(data=(torch.randn(5, 3, dtype=F64), torch.randn(5, 2, dtype=F64)), criterion="mse", ghost_batch=2) | change
    )
    with pytest.raises(InputRefused, match=words):
        Problem.from_module(MLP((3, 4, 2)), **arguments)
