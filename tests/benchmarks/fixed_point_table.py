"""Gap, time and Hessian products of `stationary_preconditioner` (T14): `python -m tests.benchmarks.fixed_point_table [LARGEST]`.

Set OPENBLAS_NUM_THREADS=1 for times worth reading.
"""

import argparse
import time
from collections.abc import Callable, Iterator

import numpy as np
import torch

from numerics.preconditioner import PreconditionerSolution, stationary_preconditioner

KINDS = ("indefinite", "definite", "network")
ROW = "{:>7} {:<12}{:<12}{:>6}{:>6}{:>10}{:>11}{:>10}{:>9}{:>10}"


def instance(kind: str, n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """H (n, n) and g (n,): random symmetric, random definite, or a few large modes over a small bulk in uneven units."""
    rng = np.random.default_rng(seed)
    A = rng.standard_normal((n, n))
    if kind == "indefinite":
        return (A + A.T) / np.sqrt(2 * n), 0.3 * rng.standard_normal(n)
    if kind == "definite":
        return A @ A.T / n, 0.3 * rng.standard_normal(n)
    Q, _ = np.linalg.qr(A)
    modes = max(3, n // 16)
    values = np.concatenate([np.linspace(5, 2, modes), np.logspace(0, -4, n - modes)])
    values[n - n // 10 :] *= -1
    units = np.exp(rng.standard_normal(n))
    return np.outer(units, units) * (Q * values @ Q.T), 0.1 * units * rng.standard_normal(n)


def structured(n: int, modes: int, seed: int = 0) -> tuple[Callable[[torch.Tensor], torch.Tensor], torch.Tensor]:
    """A low-rank-plus-diagonal product and g (n,), in uneven units; nothing of size n × n is formed."""
    generator = torch.Generator(device="cpu").manual_seed(seed)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64, device="cpu")

    units = torch.exp(draw(n))
    B = units[:, None] * draw(n, modes) / n**0.5
    values = torch.linspace(6, 1, modes, dtype=torch.float64, device="cpu")
    diagonal = 0.02 * units.square() * draw(n)
    return lambda V: (B * values) @ (B.T @ V) + diagonal[:, None] * V, 0.1 * units * draw(n)


def line(
    n: int, kind: str, solver: str, threshold: float, eps: float, solve: Callable[[], PreconditionerSolution]
) -> str:
    start = time.perf_counter()
    s = solve()
    seconds = time.perf_counter() - start
    return ROW.format(
        n, kind, solver, threshold, eps, f"{s.gap:.1e}", s.status, f"{seconds:.3f}", s.products, s.factor.shape[1]
    )


def dense_lines(n: int, solvers: tuple[str, ...]) -> Iterator[str]:
    for kind in KINDS:
        for threshold, eps in ((2.0, 0.0), (38.0, 0.0), (2.0, 0.05)):
            H, g = instance(kind, n)
            H, g = H * threshold / 2, np.sign(g) * np.maximum(np.abs(g), eps)
            for solver in solvers:
                yield line(
                    n,
                    kind,
                    solver,
                    threshold,
                    eps,
                    lambda s=solver, H=H, g=g, t=threshold, e=eps: stationary_preconditioner(
                        H, g, 1.0, t, eps=e, solver=s
                    ),
                )


def large_lines(n: int) -> Iterator[str]:
    """Cold to 1e-4 and 1e-8, warm from the solution at a gradient 1 % off, and with too few columns."""
    product, g = structured(n, 10)
    cold = stationary_preconditioner(product, 1.01 * g, 1.0, tol=1e-4)
    runs = {
        "auto 1e-4": dict(tol=1e-4),
        "auto 1e-8": dict(),
        "warm 1e-4": dict(tol=1e-4, start=cold),
        "rank 2": dict(tol=1e-4, rank=2),
    }
    for name, options in runs.items():
        yield line(n, "structured", name, 2.0, 0.0, lambda o=options: stationary_preconditioner(product, g, 1.0, **o))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("largest", nargs="?", type=int, default=100_000)
    largest = parser.parse_args().largest
    torch.set_num_threads(1)
    print(ROW.format("n", "kind", "solver", "λ*", "ε", "gap", "status", "seconds", "products", "columns"))
    for lines in (
        dense_lines(20, ("auto", "iteration", "cvxpy")),
        dense_lines(200, ("auto", "iteration")),
        large_lines(largest),
    ):
        for text in lines:
            print(text, flush=True)


if __name__ == "__main__":
    main()
