"""Reliability and speed of `solve_sdcp` on seeded instances: `python -m tests.benchmarks.sdcp_table [COUNT] [SEED]`.

Set OPENBLAS_NUM_THREADS=1 for times worth reading.
"""

import argparse
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from numerics.sdcp import SDCPSolution, solve_sdcp
from tests.sdcp_instances import CLASSES, Instance, instances

STATUSES = ("optimal", "unsolvable", "inaccurate")


@dataclass(frozen=True)
class Run:
    instance: Instance
    solution: SDCPSolution
    seconds: float


def timed(instance: Instance, solver: str = "auto", X0: np.ndarray | None = None) -> Run:
    start = time.perf_counter()
    solution = solve_sdcp(instance.A, instance.B, solver=solver, X0=X0)
    return Run(instance, solution, time.perf_counter() - start)


def survey(count: int, seed: int = 0, solver: str = "auto") -> list[Run]:
    return [timed(instance, solver) for instance in instances(count, seed)]


def failures(runs: list[Run]) -> list[Run]:
    """Solvable but not certified, or called unsolvable without being so, or the reverse."""
    return [run for run in runs if run.solution.status != ("optimal" if run.instance.solvable else "unsolvable")]


def status_lines(runs: list[Run]) -> Iterator[str]:
    yield (
        f"{'class':<18}{'n':>5}"
        + "".join(f"{s:>12}" for s in STATUSES)
        + f"{'max r':>10}{'ms':>8}{'iter':>6}{'max':>5}"
    )
    by_kind: dict[str, list[Run]] = {}
    for run in runs:
        by_kind.setdefault(run.instance.kind, []).append(run)
    for kind, members in [*by_kind.items(), ("all", runs)]:
        counts = Counter(run.solution.status for run in members)
        worst = max((r.solution.residuals.worst for r in members if r.instance.solvable), default=float("nan"))
        spent = [run.solution.iterations for run in members]
        milliseconds = 1e3 * float(np.median([run.seconds for run in members]))
        yield (
            f"{kind:<18}{len(members):>5}"
            + "".join(f"{counts[s]:>12}" for s in STATUSES)
            + f"{worst:>10.1e}{milliseconds:>8.2f}{np.median(spent):>6.0f}{max(spent):>5}"
        )


def _neighbour(instance: Instance, rng: np.random.Generator) -> Instance:
    # The next step of a flow: the same ℬ, 𝒜 moved by 1 %.
    G = rng.standard_normal(instance.A.shape)
    change = 0.01 * np.linalg.norm(instance.A, 2) * (G + G.T) / (2.0 * np.sqrt(instance.k))
    return Instance(instance.kind, instance.k, instance.A + change, instance.B)


def speed_lines(per_k: int, seed: int = 1) -> Iterator[str]:
    """Fast path cold and warm against the cvxpy reference, alternating on the same instances in one process."""
    yield f"{'k':>3}{'auto ms':>10}{'warm ms':>10}{'cvxpy ms':>10}{'ratio':>8}"
    pool = [q for q in instances(12 * len(CLASSES) * per_k, seed) if q.kind in {"plain", "several active"}]
    rng = np.random.default_rng(seed)
    for k in (1, 2, 4, 8, 12):
        rows = []
        for instance in [q for q in pool if q.k == k and np.linalg.eigvalsh(q.A)[0] < 0]:
            previous = timed(_neighbour(instance, rng)).solution.X
            runs = (timed(instance), timed(instance, X0=previous), timed(instance, "cvxpy"))
            rows.append([1e3 * run.seconds for run in runs])
        cold, warm, reference = np.median(rows, axis=0)
        yield f"{k:>3}{cold:>10.2f}{warm:>10.2f}{reference:>10.2f}{reference / cold:>8.0f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("count", nargs="?", type=int, default=1000)
    parser.add_argument("seed", nargs="?", type=int, default=0)
    arguments = parser.parse_args()
    runs = survey(arguments.count, arguments.seed)
    print("\n".join(status_lines(runs)))
    for run in failures(runs):
        print(f"FAILED {run.instance.kind}, k = {run.instance.k}: {run.solution.status}, {run.solution.residuals}")
    print()
    print("\n".join(speed_lines(per_k=5)))


if __name__ == "__main__":
    main()
