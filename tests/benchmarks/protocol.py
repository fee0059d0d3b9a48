r"""The prediction table: a protocol fixed before its seeds are run, every run printed, medians at the end.

    python -m tests.benchmarks.protocol [rmsprop gd scalar_rmsprop] [--seeds 0 1 2 3 4]

Data: digits rows 0–299, pixels/16. Network: 64-24-24-10 GELU, ½‖f − y‖² averaged over examples, torch's default initialisation.

GD and scalar RMSProp: the learning rate is the largest on the grid 2^(−k/2) at which seed 0, from the initialisation, rises through λ*
between steps 40 and 100 (`--choose-lr` searches; up to there the optimizer is its own stable flow, except for scalar RMSProp's first steps from
ν = 0, which lie outside the stable set). Each seed starts on the step before its discrete run's
top eigenvalue rises through 0.95 λ* (after step 20: from ν = 0 the first steps are a transient), with a kick of 1e-3, so that all processes start inside the stable set and the kick is
still alive when the oscillation begins. RMSProp has no such learning rate: from ν = 0 its first steps lie outside the stable set
at any useful one. It starts after 60 steps, when ν has filled, at the largest of 0.004, 0.002, 0.001 whose top eigenvalue there is within
10 % of λ* on seed 0; no kick. Length: 250 steps. GD runs both signs of the kick. Metrics: THEORY section 8. ``nu_spread`` is the
distance, measured like the ν error, of two discrete runs that start 1e-6 apart: what no averaged theory can resolve.
``restarted…`` are the figures of flows that start anew from the midpoint at the first step of E.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

import numpy as np
import torch

from numerics import Problem, restart_at_edge, simulate
from numerics.data import digits
from numerics.derivatives import NonFiniteLoss
from numerics.eigen import EigenTracker, independent_top_eigenvalues
from numerics.lowered import lower
from numerics.metrics import smooth
from numerics.models import MLP
from numerics.processes.process import Context
from theory import derive

SETTLED = 20  # steps; before, the preconditioner still starts from ν = 0
STEPS, KICK, START, REACH, SEEDS = 250, 1e-3, 0.95, (40, 100), (0, 1, 2, 3, 4)
SECOND = dict(beta2=0.99, eps=1e-6)
HYPER = {"gd": {}, "scalar_rmsprop": SECOND, "rmsprop": SECOND}
LR = {"gd": 2**-1.5, "scalar_rmsprop": 2**-1.5, "rmsprop": 0.002}
WARM = {"rmsprop": 60}
SIGNS = {"gd": (1, -1), "scalar_rmsprop": (1,), "rmsprop": (0,)}


def problem_of(seed):
    return Problem.from_module(MLP(seed=seed), digits(300), "mse")


def edge_step(rule, hyper, seed, fraction=START, settled=SETTLED, limit=200, problem=None):
    """Last step before the discrete run's top eigenvalue rises through the fraction of λ*, once ν has begun to fill."""
    ratios = approach(rule, hyper, problem or problem_of(seed), limit, fraction, settled)
    return len(ratios) - 2 if ratios[-1] >= fraction else None


def approach(rule, hyper, problem, limit, fraction=1.0, settled=SETTLED):
    """λ/λ* of the discrete run's top mode, step by step until it has risen through the fraction; NaN where training diverged."""
    options = {k: v for k, v in hyper.items() if isinstance(v, bool)}
    numbers = {k: v for k, v in hyper.items() if k not in options}
    lowered = lower(derive(rule, **options).emitted, numbers, problem.blocks, problem.w0)
    context, tracker = Context(problem, lowered, False, 0), EigenTracker(problem.n, tol=1e-4)
    w, states, ratios, below = problem.w0, lowered.initial(), [], False
    while len(ratios) < limit and not (ratios and ratios[-1] >= fraction and below and len(ratios) > settled + 1):
        below |= bool(ratios) and ratios[-1] < fraction
        try:
            local = problem.linearise(w)
        except NonFiniteLoss:
            return [*ratios, float("nan")]
        w_next, states_next = lowered.f.step(w, local.grad, states)
        a = lowered.select(states_next)
        threshold = float(lowered.f.threshold(a))
        modes = tracker.track(local.hessian_product, context.preconditioner(a), 0.9 * threshold)
        ratios.append(float(modes.values[0]) / threshold)
        w, states = w_next, states_next
    return ratios


def choose_lr(rule):
    """Search the grid downwards and print each trial."""
    for k in range(11):
        lr = 2 ** (-k / 2)
        before = edge_step(rule, HYPER[rule] | {"lr": lr}, 0, fraction=1.0)
        print(f"{rule:15s} lr 2^-{k / 2:<4} rises through λ* after step {before}", flush=True)
        if before is not None and REACH[0] <= before < REACH[1]:
            return lr
    return None


@dataclass(frozen=True)
class Row:
    seed: int
    sign: int
    start: int
    loss: float
    loss_stable: float
    explained: float
    explained_min: float
    distance: float
    distance_stable: float
    variance: float
    nu: float
    nu_spread: float
    modes: int
    onset: int
    eigenvalue: float
    restarted: float
    restarted_loss: float
    restarted_loss_stable: float


def critical_error(run, problem, lowered, context):
    """Largest |λ/λ* − 1| over modes with X > 0, every 10th step, by an independent eigen-solve at the recorded point.

    X of the step t − 1 → t holds its modes at the threshold at the end of that step: at row t.
    """
    central, worst = run["central"], 0.0
    for t in range(10, central.steps, 10):
        k = int(central.critical[t - 1])
        if not k:
            continue
        w = torch.as_tensor(central.weights_series[t])
        named = {n: s[t] for n, s in central.states_series.items()}
        a = lowered.select(lowered.pack(named))
        P = context.preconditioner(a).expand(problem.n)
        values = independent_top_eigenvalues(problem.linearise(w).hessian_product, P, k)
        worst = max(worst, float(np.abs(np.asarray(values) / float(lowered.f.threshold(a)) - 1).max()))
    return worst


def one_seed(rule, hyper, seed):
    start = WARM[rule] if rule in WARM else edge_step(rule, hyper, seed)
    if start is None:
        print(f"{rule} seed {seed}: the edge is not reached", flush=True)
        return []
    problem = problem_of(seed)
    lowered = lower(derive(rule).emitted, hyper, problem.blocks, problem.w0)
    context = Context(problem, lowered, True, 0)
    runs = {
        s: simulate(problem, rule, hyper, STEPS, warm_start=start, kick=s * KICK, seed=seed, check=False)
        for s in SIGNS[rule]
    }
    spread, one = float("nan"), runs[SIGNS[rule][0]]["discrete"]
    if "nu" in one.states_series:
        near = simulate(
            problem,
            rule,
            hyper,
            STEPS,
            warm_start=start,
            kick=SIGNS[rule][0] * KICK + 1e-6,
            seed=seed,
            processes=("discrete",),
            check=False,
        )
        a, b = (smooth(r.states_series["nu"].reshape(STEPS, -1)) for r in (one, near["discrete"]))
        spread = float(np.mean(np.linalg.norm(a - b, axis=1) / np.linalg.norm(a, axis=1)))
    return [
        _row(r, seed, s, start, spread, critical_error(r, problem, lowered, context), again(r, problem, rule, hyper))
        for s, r in runs.items()
    ]


def again(run, problem, rule, hyper):
    """Summary of the flows restarted at the first step of the edge, or None without an edge."""
    return restart_at_edge(run, problem, rule, hyper).summary() if run.summary().edge else None


def _row(run, seed, sign, start, spread, eigenvalue, restarted):
    shown = {figure: (central, stable) for figure, central, stable, _ in run.summary().as_rows()}

    def figure(name, column=0):
        text = shown.get(name, ("", ""))[column]
        return float(text) if text else float("nan")

    row = Row(
        seed,
        sign,
        start,
        figure("predicted loss, relative error"),
        figure("predicted loss, relative error", 1),
        figure("deviation explained, last step of E"),
        figure("deviation explained, least in 2nd half of E"),
        figure("distance to the smoothed weights, last step of E"),
        figure("distance to the smoothed weights, last step of E", 1),
        figure("oscillation variance, predicted / measured"),
        figure("state, relative error, nu"),
        spread,
        int(run["central"].critical.max()),
        int(figure("onset delay, steps") if shown.get("onset delay, steps", ("",))[0] else -1),
        eigenvalue,
        *(
            float("nan") if restarted is None or value is None else value
            for value in (
                getattr(restarted, "deviation_explained", None),
                getattr(restarted, "predicted_loss_error", None),
                getattr(restarted, "stable_loss_error", None),
            )
        ),
    )
    print(
        "  ".join(
            f"{v:+d}"
            if k == "sign"
            else f"{v:{6 if isinstance(v, int) else 9}.4g}"
            if isinstance(v, float)
            else f"{v:6d}"
            for k, v in vars(row).items()
        ),
        flush=True,
    )
    return row


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rules", nargs="*", default=list(HYPER))
    parser.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS))
    parser.add_argument("--choose-lr", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for rule in arguments.rules:
        if arguments.choose_lr:
            print(f"{rule}: lr = {choose_lr(rule)}")
            continue
        hyper = HYPER[rule] | {"lr": LR[rule]}
        start = f"{WARM[rule]} steps" if rule in WARM else f"{START} λ*"
        print(
            f"\n{rule} {hyper}, {STEPS} steps, start at {start}, kick {', '.join(f'{k * KICK:+g}' for k in SIGNS[rule])}"
        )
        print(
            "  ".join(
                f"{k[:9]:>6}" if k in ("seed", "sign", "start", "modes", "onset") else f"{k[:9]:>9}"
                for k in Row.__annotations__
            )
        )
        rows = [row for seed in arguments.seeds for row in one_seed(rule, hyper, seed)]
        if rows:
            print(
                "median  "
                + "  ".join(
                    f"{k} {np.nanmedian([getattr(r, k) for r in rows]):.4g}"
                    for k in Row.__annotations__
                    if k not in ("seed", "sign") and not all(np.isnan(getattr(r, k)) for r in rows)
                )
            )
            print(
                f"worst explained {min(r.explained for r in rows):.4g}, worst eigenvalue error {max(r.eigenvalue for r in rows):.2e}"
            )


if __name__ == "__main__":
    main()
