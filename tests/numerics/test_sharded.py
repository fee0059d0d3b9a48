"""Several processes with a share of the examples each are one process with all of them (gloo, on this machine)."""

import multiprocessing
import os

import numpy as np
import pytest
import torch
from torch import distributed as dist

from numerics import InputRefused, Problem, simulate
from numerics.boundary import to_numpy
from numerics.data import digits
from numerics.derivatives import NonFiniteLoss
from numerics.models import MLP
from numerics.sharded import RankLost, ShardedProblem, shard
from tests.numerics.problems import small_problem

EXAMPLES = 23  # divisible by neither 2 nor 4: shards of unequal size
# Sums in another order differ by round-off, 1e-16, and so do the gradients. The flows also use differences of gradients, which
# divide it by 1e-6 (Hessian products) and 1e-8 (third derivatives): measured, their weights then agree to 6e-11 of their norm,
# eigenvalues to 8e-11, for the first 16 steps at the edge with these settings. So weights and losses are compared to 1e-10, the
# eigenvalues to 1e-9. With eps = 1e-6 in place of 1e-3 pixels that are nearly dead make P nearly singular, and flows agree to
# 1e-9 only; after some hundred steps at the edge the optimizer's own path is chaotic, and no two orders of summation agree.
STEPS, WARM_START = 8, 15
SETTINGS = {"gd": dict(lr=0.5), "rmsprop": dict(lr=0.01, beta2=0.9, eps=1e-3)}


def problem(criterion="cross_entropy", examples=EXAMPLES):
    x, y = digits(examples)
    return Problem.from_module(MLP((64, 6, 10)), (x, y.argmax(1) if criterion == "cross_entropy" else y), criterion)


def together(ranks, folder, task, *arguments):
    """The results of a function run by so many processes, copies of this one, that form a group."""
    context = multiprocessing.get_context("fork")
    queue, store = context.Queue(), f"file://{folder}/store{ranks}"

    def work(rank):
        dist.init_process_group("gloo", init_method=store, rank=rank, world_size=ranks)
        try:
            queue.put((rank, task(*arguments)))
        except (InputRefused, RankLost, NonFiniteLoss) as error:
            queue.put((rank, error))
        # Nobody leaves before all have their result.
        queue.close()
        queue.join_thread()
        os._exit(0)

    workers = [context.Process(target=work, args=(rank,)) for rank in range(ranks)]
    try:
        for worker in workers:
            worker.start()
        results = dict(queue.get(timeout=120) for _ in workers)
    finally:
        for worker in workers:
            worker.kill()
            worker.join()
    return [results[rank] for rank in range(ranks)]


def derivatives(p):
    """Everything that `Problem` offers, at a point off the start, as arrays."""
    w = p.w0 + 0.1 * torch.cos(torch.arange(p.n, dtype=p.dtype))
    U = torch.sin(torch.arange(3 * p.n, dtype=p.dtype)).reshape(p.n, 3)
    local = p.linearise(w)
    found = {
        "value": p.value(w),
        "loss": p.gradient(w)[0],
        "gradient": p.gradient(w)[1],
        "linearised": local.grad,
        "product": local.hessian_product(U),
        "quick": local.quick_hessian_product(U),
        "third": local.third(U, "exact"),
        "third by differences": local.third(U, "differences"),
    }
    return {name: to_numpy(x) for name, x in found.items()}


@pytest.mark.parametrize("criterion", ["mse", "cross_entropy"])
@pytest.mark.parametrize("ranks", [2, 4])
def test_derivatives_are_those_of_all_examples(ranks, criterion, tmp_path):
    whole = derivatives(problem(criterion))
    # Round-off, and what is left of it where differences of gradients divide it by 1e-6 or 1e-8; the latter is also what the
    # differences themselves are checked for.
    tolerances = {"quick": 1e-8, "third by differences": 1e-5}
    results = together(ranks, tmp_path, lambda: derivatives(shard(problem(criterion))))
    for name, expected in whole.items():
        assert all(np.array_equal(results[0][name], other[name]) for other in results[1:])
        error = np.linalg.norm(results[0][name] - expected) / np.linalg.norm(expected)
        assert error < tolerances.get(name, 1e-13), (name, error)


def records(p, rule, **more):
    run = simulate(p, rule, SETTINGS[rule], STEPS, warm_start=WARM_START, kick=1e-3, **more)
    return {name: {s: x for s, x in run[name].series.items() if not s.startswith("cost/")} for name in run}


@pytest.mark.parametrize("rule", SETTINGS)
@pytest.mark.parametrize("ranks", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_a_run_of_several_processes_is_the_run_of_one(ranks, rule, tmp_path):
    """In every row of every process, at the edge; between the processes that share it, bit by bit."""
    whole = records(problem("mse"), rule)
    assert np.nansum(whole["central"]["critical"]) >= 4
    first, *others = together(ranks, tmp_path, lambda: records(shard(problem("mse")), rule))
    for name, expected in whole.items():
        for other in others:
            for series in expected:
                assert np.array_equal(first[name][series], other[name][series], equal_nan=True), (name, series)
        size = np.linalg.norm(expected["weights_series"], axis=1)
        apart = np.linalg.norm(first[name]["weights_series"] - expected["weights_series"], axis=1)
        assert (apart < 1e-10 * size).all(), (name, apart.max())
        np.testing.assert_allclose(first[name]["loss"], expected["loss"], rtol=1e-10)
        top = expected["eigenvalues"][:, 0]
        np.testing.assert_allclose(first[name]["eigenvalues"][:, 0], top, rtol=1e-9)


def test_processes_may_hold_rows_that_no_other_ever_saw(tmp_path):
    cut = 5

    def own():
        x, y = digits(EXAMPLES)
        rows = slice(cut) if dist.get_rank() == 0 else slice(cut, None)
        return derivatives(ShardedProblem(Problem.from_module(MLP((64, 6, 10)), (x[rows], y[rows]), "mse")))

    for found in together(2, tmp_path, own):
        expected = derivatives(problem("mse"))["gradient"]
        assert np.linalg.norm(found["gradient"] - expected) < 1e-13 * np.linalg.norm(expected)


def summed(outputs, targets):
    return (outputs - targets).square().sum()


def weighted(outputs, targets):
    weights = torch.linspace(0.5, 2, 10, dtype=outputs.dtype)
    return torch.nn.functional.cross_entropy(outputs, targets.argmax(1), weight=weights)


@pytest.mark.parametrize("criterion", [summed, weighted])
def test_losses_that_are_no_mean_over_examples_are_refused(criterion, tmp_path):
    for refusal in together(2, tmp_path, lambda: shard(problem(criterion))):
        assert isinstance(refusal, InputRefused) and "mean over examples" in str(refusal)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (small_problem, "bare loss"),
        (lambda: problem("mse", examples=1), "start fewer processes"),
    ],
)
def test_what_cannot_be_shared_is_refused(make, words, tmp_path):
    for refusal in together(2, tmp_path, lambda: shard(make())):
        assert isinstance(refusal, InputRefused) and words in str(refusal)


def test_a_loss_that_is_nan_near_the_start_on_one_process_is_refused_on_all(tmp_path):
    def criterion(outputs, targets):
        # One row of the second process is marked; outputs are 0 at the start and nowhere else.
        value = (outputs - targets).square().sum(1)
        return torch.where(targets[:, 0] * outputs.detach().norm() > 0, torch.nan, value).mean()

    def task():
        x, y = digits(4)
        y[:, 0] = torch.tensor([0.0, 0, 0, 1])
        module = MLP((64, 6, 10))
        for p in module.parameters():
            torch.nn.init.zeros_(p)
        return shard(Problem.from_module(module, (x, y), criterion))

    for refusal in together(2, tmp_path, task):
        assert isinstance(refusal, InputRefused) and "mean over examples" in str(refusal)


def test_a_loss_that_is_nan_on_one_process_stops_all(tmp_path):
    def criterion(outputs, targets):
        # Targets of the second process's rows are marked; the criterion is a mean for as long as the outputs are small.
        value = (outputs - targets).square().sum(1)
        return torch.where(targets[:, 0] * outputs.detach().norm() > 50, torch.nan, value).mean()

    def task():
        x, y = digits(4)
        y[:, 0] = torch.tensor([0.0, 0, 0, 1])
        p = shard(Problem.from_module(MLP((64, 6, 10)), (x, y), criterion))
        for ask in (p.value, p.gradient, p.linearise):
            with pytest.raises(NonFiniteLoss):
                ask(1000 * p.w0)
        return float(p.value(p.w0))

    first, second = together(2, tmp_path, task)
    assert first == second


def test_a_refusal_of_the_leading_process_is_everyones(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "mine").write_text("x")
    for refusal in together(2, tmp_path, lambda: records(shard(problem("mse")), "gd", out=tmp_path / "run")):
        assert isinstance(refusal, InputRefused) and "not empty" in str(refusal)


def test_a_lost_process_is_noticed_by_the_others(tmp_path):
    def task():
        p = shard(problem("mse"))
        if dist.get_rank() == 1:
            raise InputRefused("this one leaves")
        while True:
            p.gradient(p.w0)

    lost, left = together(2, tmp_path, task)
    assert isinstance(left, InputRefused)
    assert isinstance(lost, RankLost) and "--resume" in str(lost) and "\n" not in str(lost)
