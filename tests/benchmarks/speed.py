r"""What a step of the central flow costs, in gradients of the same loss; against a flop bound, and against the textbook's way.

    python -m tests.benchmarks.speed [--steps 8] [--networks MLP CNN Transformer] [--skip-textbook] [--skip-growth]

CPU time of one thread; a plain gradient is timed after every step, and medians over the steps with k critical modes are given. `cand` is
the mean number of modes that took part in the covariance problem, `products` that of Hessian products. The first steps of each flow, in which
eigenvectors are found from nothing, are left out. Where k modes at the edge do not occur, rows with a star treat the k top modes as critical
wherever they are: the same work, most of their variances 0.

The bound: exact derivatives of a function that takes 1 flop forwards and 2 backwards need at least (3 + 8k + 5k²)/3 gradients for the gradient,
H u_i and ∇H[u_i, u_j]; and one correction of the eigenvectors, the smallest number of products with which they can be followed, is a block of
k + 2 Hessian products (the modes and two guards, without which a rising mode is not seen), counted as one gradient each. `strict` is the
ratio to the bound with k products instead of k + 2, as if guards were free.

The second table shows how the cost grows with the width (parameters n) and with the number of examples N, in gradients. The third runs GD's
step by `tests.benchmarks.textbook` from the same points: `differs` is the distance of the two steps' ends over the length of the step, `its error`
that of the reference from itself with twice as many substeps, and `same steps` that of our step in the reference's own Euler substeps.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from unittest import mock

import numpy as np
import torch

import numerics.models
from numerics import Problem
from numerics.data import digits
from numerics.lowered import lower
from numerics.processes import AveragedFlow, Context, averaged
from tests.benchmarks.textbook import SUBSTEPS, textbook_step
from theory import derive

SECOND = dict(beta2=0.99, eps=1e-6)
# Per network: rule, hyperparameters, optimizer steps before the flow starts, and the k it is run for.
SETTINGS = {
    "MLP": [
        ("gd", dict(lr=0.25), 70, (1, 2, 3)),
        ("gd", dict(lr=0.7), 12, (4, 5, 6)),
    ],
    "CNN": [
        ("scalar_rmsprop", dict(lr=0.02, **SECOND), 20, (1,)),
        ("rmsprop", dict(lr=6e-3, **SECOND), 23, (2, 3)),
        ("rmsprop", dict(lr=3e-3, **SECOND), 30, (4,)),
    ],
    "Transformer": [
        ("gd", dict(lr=0.25), 60, (1,)),
        ("rmsprop", dict(lr=4e-3, **SECOND), 60, (2, 3)),
    ],
}
PHASES = ("grad", "eig", "third", "sdcp")


COLD = 3  # first steps of a flow


def bound(k, guards=2):
    return (3 + 8 * k + 5 * k * k) / 3 + k + guards


def problem_of(network, examples=1000, width=1):
    if network == "Transformer":
        generator = torch.Generator().manual_seed(0)
        x = torch.randint(0, 8, (examples // 4, 12), generator=generator)
        y = torch.nn.functional.one_hot(x.sort(1).values[:, -1], 8).double()
        return Problem.from_module(numerics.models.Transformer(width=16 * width, positions=0), (x, y), "mse")
    module = (
        numerics.models.CNN((1, 8 * width, 16 * width))
        if network == "CNN"
        else numerics.models.MLP((64, 64 * width, 64 * width, 10))
    )
    return Problem.from_module(module, digits(examples), "mse")


def started(problem, rule, hyper, warm):
    """A central flow after some optimizer steps."""
    lowered = lower(derive(rule).emitted, hyper, problem.blocks, problem.w0)
    w, states = problem.w0, lowered.initial()
    for _ in range(warm):
        w, states = lowered.f.step(w, problem.gradient(w)[1], states)
    return AveragedFlow(Context(problem, lowered, False, 0), w, states, "central", oscillates=True)


def timed(call):
    start = time.process_time()
    result = call()
    return time.process_time() - start, result


def measure(flow, steps, wanted=(1,), enough=10**9):
    """Per step: k, candidates, products, and the CPU time as a whole, by phase and of a gradient beside it."""
    rows, counts, track = [], defaultdict(int), flow._tracker.track
    spent = []

    def counted(*arguments):
        modes = track(*arguments)
        spent.append(modes.products)
        return modes

    flow._tracker.track = counted
    for _ in range(steps):
        total, row = timed(flow.step)
        gradient, _ = timed(lambda: flow.context.problem.gradient(flow.w))
        share = {p: row[f"cost/{p}"] / sum(row[f"cost/{q}"] for q in PHASES) for p in PHASES}
        rows.append((int(row["critical"]), int(row["candidates"]), spent[-1], total, share, gradient))
        counts[rows[-1][0]] += len(rows) > COLD
        if all(counts[k] >= enough for k in wanted):
            break
    return rows[COLD:]


def forced(flow, k, steps):
    """The same, for steps in which the k top modes are treated as critical."""
    width = [0.3]

    def step(flow=flow, step=flow.step):
        row = step()
        values = row["eigenvalues"] / row["threshold"]
        width[0] = 1.005 - float(values[k - 1]) if len(values) > k else width[0] + 0.1
        return row

    flow.step, flow._width = step, lambda: width[0]
    with mock.patch.object(averaged, "spectral_cut", lambda *a: k):
        rows = measure(flow, COLD + 4 + steps)[4:]
    return [(k, *row[1:]) for row in rows if row[1] == k]


def summary(rows):
    """Medians in gradients: total, phases, candidates, products."""
    g = np.median([r[5] for r in rows])
    return (
        np.median([r[3] for r in rows]) / g,
        {p: np.median([r[3] * r[4][p] for r in rows]) / g for p in PHASES},
        np.mean([r[1] for r in rows]),
        np.mean([r[2] for r in rows]),
    )


def table(network, steps):
    print(
        f"\n{network}\n"
        + "".join(f"{x:>9}" for x in ("k", "steps", "total g", *PHASES, "cand", "products", "bound", "ratio", "strict"))
    )
    found = defaultdict(list)
    problem = problem_of(network, 500 if network == "CNN" else 1000)
    for rule, hyper, warm, wanted in SETTINGS[network]:
        flow = started(problem, rule, hyper, warm)
        for row in measure(flow, 60, wanted, steps):
            found[row[0]].append(row)
    for k in range(1, 7):
        star = " "
        if len(found[k]) < 3:
            star, found[k] = "*", forced(started(problem, *SETTINGS[network][0][:3]), k, steps)
        total, phases, candidates, products = summary(found[k])
        numbers = "".join(f"{x:9.1f}" for x in (total, *phases.values(), candidates, products, bound(k)))
        ratios = "".join(f"{total / bound(k, guards):9.2f}" for guards in (2, 0))
        print(f"{k:8d}{star}{len(found[k]):9d}{numbers}{ratios}", flush=True)
    g = np.median([r[5] for rows in found.values() for r in rows])
    print(f"gradient {1e3 * g:.1f} ms, n = {problem.n}", flush=True)


def growth(steps):
    print(
        "\nhow it grows (scalar_rmsprop, CNN)\n"
        + "".join(f"{x:>10}" for x in ("width", "n", "N", "k", "total g", "cand", "products", "gradient"))
    )
    for width, examples in ((1, 250), (1, 500), (1, 1000), (2, 500), (4, 500)):
        problem = problem_of("CNN", examples, width)
        flow = started(problem, "scalar_rmsprop", dict(lr=0.02, **SECOND), 20)
        rows = [r for r in measure(flow, 40, (1,), steps) if r[0] == 1]
        if rows:
            total, _, candidates, products = summary(rows)
            g = np.median([r[5] for r in rows])
            print(
                f"{width:10d}{problem.n:10d}{examples:10d}{1:10d}{total:10.1f}{candidates:10.1f}{products:10.1f}{1e3 * g:8.1f}ms",
                flush=True,
            )


def euler_step(flow, w, k):
    """Our step from w with the same k modes in the reference's substeps, all by forward Euler."""
    same = AveragedFlow(flow.context, w, (), "same", oscillates=True, substeps=SUBSTEPS, fast=np.inf)
    same._tracker.tol, same._width = 1e-9, lambda: 0.9
    with mock.patch.object(averaged, "spectral_cut", lambda *a: k):
        same.step()
    return same.w


def textbook(samples=1):
    print(
        "\nGD on a 64-24-24-10 MLP, 300 digits: ours and the textbook's way from the same points\n"
        + "".join(f"{x:>12}" for x in ("k", "ours g", "textbook g", "ratio", "differs", "its error", "same steps"))
    )
    lr, taken = 0.354, defaultdict(int)
    problem = Problem.from_module(numerics.models.MLP(seed=0), digits(300), "mse")
    flow = started(problem, "gd", dict(lr=lr), 40)
    for _ in range(120):
        w = flow.w
        ours, row = timed(flow.step)
        gradient = np.median([timed(lambda: problem.gradient(flow.w))[0] for _ in range(5)])
        k = int(row["critical"])
        if k == 0 or k != int(row["candidates"]) or taken[k] >= samples:
            continue
        taken[k] += 1
        theirs, (end, _) = timed(lambda w=w, k=k: textbook_step(problem.loss, w, lr, k))
        finer, _ = textbook_step(problem.loss, w, lr, k, substeps=8)
        euler = euler_step(flow, w, k)
        differs, error, same = (float((x - end).norm() / (end - w).norm()) for x in (flow.w, finer, euler))
        print(
            f"{k:12d}{ours / gradient:12.1f}{theirs / gradient:12.1f}{theirs / ours:12.1f}{differs:12.3f}{error:12.4f}{same:12.5f}",
            flush=True,
        )
        if len(taken) == 3 and min(taken.values()) >= samples:
            break


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=8)
    networks = [n for n in SETTINGS if hasattr(numerics.models, n)]
    parser.add_argument("--networks", nargs="+", choices=networks, default=networks)
    parser.add_argument("--skip-textbook", action="store_true")
    parser.add_argument("--skip-growth", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for network in arguments.networks:
        table(network, arguments.steps)
    if not arguments.skip_growth:
        growth(arguments.steps)
    if not arguments.skip_textbook:
        textbook()


if __name__ == "__main__":
    main()
