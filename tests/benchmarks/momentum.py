r"""The prediction table with momentum: a protocol chosen on seed 0, and every run of the seeds after it printed.

    python -m tests.benchmarks.momentum [case …] [--seeds 1 2 3] [--form central inertial …] [--choose-lr]

Data: digits rows 0–399, pixels/16, 30 % of the labels replaced by random ones, so that the loss stays away from 0. Network:
64-24-24-10 GELU, ½‖f − y‖² averaged over examples, torch's default initialisation. Each seed starts on the step before the
discrete run's top eigenvalue of P⁻¹H rises through 0.99 λ* (after step 20: the second moment and the momentum start from 0), with a
kick of 2e-3/λ* along the top mode (its gradient is that of a kick of 1e-3 with gradient descent), and runs for 250 steps; the edge E is
that of THEORY section 8, and its metrics are used. So near λ*, because with momentum a kick dies by √β per step anywhere below.

Averaging asks that the eigenvalues move slowly. Without a second moment, the learning rate is the largest 2^(k/2) at which on seed 0 the
top eigenvalue rises through λ* by at most 0.2 % of it per step, the mean over five steps. With one, where noise of the eigenvalue hides
its rise, it is the largest at which on seed 0 the edge is reached after one memory of the second moment, 1/(1−β₂) steps, so that P has
settled. ``--choose-lr`` searches.

``central`` keeps the rule's own filter states, ``inertial`` one pole of equal lag, ``eliminated`` none; ``cross`` is ``central`` with
g∘∇⟨H,Σ⟩ kept in E[g²] (the same where nothing is squared), ``rod`` the rod flow. "restarted" lines: the same flows, started anew from the
midpoint at the first step of E, where that is not the first of all.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
import torch

from numerics import InputRefused, Problem, restart_at_edge, simulate
from numerics.data import digits
from numerics.models import MLP
from numerics.summary import summarise
from tests.benchmarks.protocol import approach, edge_step
from theory import derive

STEPS, KICK, START, SEEDS, EXAMPLES, NOISE = 250, 2e-3, 0.99, (1, 2, 3), 400, 0.3
LIMIT, SLOW = 2000, 2e-3  # steps to the edge; rise per step
FORMS = ("central", "inertial", "eliminated", "cross", "rod")
SECOND = dict(beta2=0.99, eps=1e-8)
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "heavy ball 0.5": ("heavy_ball", dict(lr=2**-2, momentum=0.5, ema=True)),
    "heavy ball 0.9": ("heavy_ball", dict(lr=2**0.5, momentum=0.9, ema=True)),
    "nesterov 0.9": ("nesterov", dict(lr=2**-4, momentum=0.9)),
    "adam 0.5": ("adam", dict(lr=2**-10.5, beta1=0.5, **SECOND)),
    "adam 0.9": ("adam", dict(lr=2**-8, beta1=0.9, **SECOND)),
    "adamw 0.9": ("adamw", dict(lr=2**-8, beta1=0.9, weight_decay=0.01, **SECOND)),
}


def problem_of(seed):
    """The network of a seed, and its data: which labels are random depends on the seed too."""
    inputs, targets = digits(EXAMPLES)
    generator = torch.Generator().manual_seed(1000 + seed)
    noisy = torch.rand(EXAMPLES, generator=generator) < NOISE
    drawn = torch.randint(0, 10, (int(noisy.sum()),), generator=generator)
    targets[noisy] = torch.eye(10, dtype=targets.dtype)[drawn]
    return Problem.from_module(MLP(seed=seed), (inputs, targets), "mse")


FIGURES = {
    "loss": "predicted_loss_error",
    "explained": "deviation_explained",
    "explained_min": "deviation_explained_minimum",
    "distance": "distance_central",
    "modes": "critical_max",
}


def figures_of(run, name):
    """Metrics of THEORY section 8 for one flow; None where the flow stopped."""
    if name in run.manifest["stopped"]:
        return None
    summary = summarise(run, central=name)
    nu = (summary.state_errors or {}).get("nu")
    values = {short: getattr(summary, figure) for short, figure in FIGURES.items()} | {"nu": nu}
    return {k: float("nan") if v is None else float(v) for k, v in values.items()}


def one_seed(rule, hyper, seed, forms):
    """One row: how the midpoints sit at the edge, and each flow's figures."""
    problem = problem_of(seed)
    start = edge_step(rule, hyper, seed, fraction=START, problem=problem, limit=LIMIT)
    if start is None:
        print(f"  seed {seed}: the edge is not reached", flush=True)
        return {}
    processes = ("discrete", "midpoint", "stable", *forms)
    options = {k: v for k, v in hyper.items() if isinstance(v, bool)}
    d = derive(rule, **options)
    kick = KICK / float(d.limit(d.threshold).subs({d.rule_symbol(k): v for k, v in hyper.items() if k not in options}))
    run = simulate(
        problem, rule, hyper, STEPS, warm_start=start, kick=kick, seed=seed, processes=processes, check=False
    )
    edge = summarise(run, central=forms[0])
    print(f"  seed {seed}: start {start}, E {edge.edge}, {edge_ratios(edge)}", flush=True)
    print(f"    stable     loss {edge.stable_loss_error:.4g}  distance {edge.distance_stable:.4g}", flush=True)
    found = {name: figures_of(run, name) for name in forms}
    for name, figures in found.items():
        text = shown(figures) if figures else f"stopped: {run.manifest['stopped'][name]}"
        print(f"    {name:10s} {text}", flush=True)
    # Row 0 of the midpoints is the start itself: where E begins there, restarting changes nothing.
    return found | (restarted(run, problem, rule, hyper, forms) if edge.edge[0] else {})


def edge_ratios(summary):
    """How the midpoints sit at the edge; – where no mode was critical."""
    mean, critical = ("–" if x is None else f"{x:.3f}" for x in (summary.edge_ratio_mean, summary.edge_ratio_critical))
    return f"midpoint λ/λ* {mean}, of critical modes {critical}"


def restarted(run, problem, rule, hyper, forms):
    """The same figures of flows started at the first step of the edge."""
    try:
        again = restart_at_edge(run, problem, rule, hyper, processes=("stable", *forms))
    except InputRefused as reason:
        print(f"    not restarted: {reason}")
        return {}
    stable = summarise(again, central=forms[0])
    print(
        f"    restarted stable: loss {stable.stable_loss_error:.4g}  distance {stable.distance_stable:.4g}", flush=True
    )
    found = {f"{name}, restarted": figures_of(again, name) for name in forms}
    for name, figures in found.items():
        print(f"    {name:21s} {shown(figures) if figures else 'stopped'}", flush=True)
    return found


def choose_lr(rule, hyper):
    """Search the grid downwards on seed 0 and print each trial."""
    top = -7 if "beta2" in hyper else 2.5
    for k in range(14):
        lr = 2 ** (top - k / 2)
        ratios = approach(rule, hyper | {"lr": lr}, problem_of(0), LIMIT)
        print(
            f"  lr 2^{top - k / 2:<4}: after {len(ratios)} steps λ/λ* {ratios[-1]:.3g} rises by {rise(ratios):.2g} per step",
            flush=True,
        )
        if slow_enough(ratios, hyper):
            return lr
    return None


def rise(ratios):
    """The rise of λ/λ* per step where it comes to the edge; NaN where it does not."""
    return (ratios[-1] - ratios[-6]) / 5 if ratios[-1] >= 1 else float("nan")


def slow_enough(ratios, hyper):
    """Whether the edge is reached, and as slowly as averaging asks."""
    if "beta2" in hyper:
        return ratios[-1] >= 1 and len(ratios) >= 1 / (1 - hyper["beta2"])
    return rise(ratios) <= SLOW


def shown(figures):
    """One line."""
    return "  ".join(f"{k} {v:.4g}" for k, v in figures.items())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", default=list(CASES), metavar="case")
    parser.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS))
    parser.add_argument("--form", nargs="+", default=list(FORMS))
    parser.add_argument("--choose-lr", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for case in arguments.cases:
        rule, hyper = CASES[case]
        print(f"\n{case}: {rule} {hyper}", flush=True)
        if arguments.choose_lr:
            print(f"  lr = {choose_lr(rule, hyper)}")
            continue
        rows = [one_seed(rule, hyper, seed, arguments.form) for seed in arguments.seeds]
        for name in [*arguments.form, *(f"{form}, restarted" for form in arguments.form)]:
            values = [row[name] for row in rows if row.get(name)]
            if values:
                print(
                    f"  median {name:21s} {shown({k: np.median([v[k] for v in values]) for k in values[0]})}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
