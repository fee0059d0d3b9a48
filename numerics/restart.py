"""The flows restarted where the optimizer reaches its edge, and held against the same training (THEORY section 8).

Before the edge the flows already drift from training; started anew on it, at a midpoint, they show what the theory of the oscillation
itself is worth.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any

from torch import Tensor

from numerics.errors import InputRefused
from numerics.metrics import edge_window
from numerics.problem import Problem
from numerics.records import ProcessRecord, Run
from numerics.simulate import iterates, simulate


def restart_at_edge(
    run: Run,
    problem: Problem,
    rule: Any,
    hyper: Mapping[str, Any],
    *,
    processes: Sequence[str] = ("stable", "central"),
    state: Mapping[str, Any] | None = None,
) -> Run:
    """Hold flows that start on the edge against the rest of a run; `summarise` gives the same figures of it.

    They start at the first step of E, at the midpoint (y_{t−1} + 2y_t + y_{t+1})/4 of weights and states.

    Args:
        run: with discrete and midpoint, its weights kept.
        problem: the one that was run.
        rule: the one that was run.
        hyper: as they were given.
        processes: flows to restart.
        state: the optimizer's state that the run was given, if any.

    Returns:
        A run whose row 0 is the first step of E: discrete and midpoint of ``run``, and the restarted flows.

    Raises:
        InputRefused: If the run has no edge.
    """
    config: Any = run.manifest["config"]
    first = _first_step(run)
    w, states = _midpoint(problem, rule, hyper, config, state, first)
    flows = simulate(
        Problem(problem.loss, w, blocks=problem.blocks),
        rule,
        hyper,
        run["midpoint"].steps - first,
        state=states,
        processes=processes,
        seed=config["seed"],
        substeps=config["substeps"],
        stride=config.get("stride", 1),
        check=False,
    )
    rest = {
        name: ProcessRecord(name, {k: v[first:] for k, v in run[name].series.items()}, run[name].finals)
        for name in ("discrete", "midpoint")
    }
    return Run(rest | flows.processes, flows.manifest | {"restarted": first})


def _first_step(run: Run) -> int:
    midpoint = run["midpoint"]
    found = edge_window(midpoint.eigenvalues[:, 0], midpoint.threshold)
    if found is None:
        raise InputRefused("a restart needs a run that reaches its edge more than 24 steps before its end; run longer.")
    return int(found.start)


def _midpoint(
    problem: Problem, rule: Any, hyper: Mapping[str, Any], config: Any, state: Mapping[str, Any] | None, t: int
) -> tuple[Tensor, dict[str, Tensor]]:
    """Train again up to t + 1 and average; at t = 0, which has no predecessor, the point itself."""
    settings = {name: config[name] for name in ("warm_start", "kick", "seed")}
    walk = islice(iterates(problem, rule, hyper, state=state, **settings), max(t - 1, 0), t + 2)
    points = [(w, states) for w, states in walk]
    if t == 0:
        return points[0]
    (a, before), (b, now), (c, after) = points
    return (a + 2 * b + c) / 4, {n: (before[n] + 2 * now[n] + after[n]) / 4 for n in now}
