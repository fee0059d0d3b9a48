"""One page about the graphics card of this machine: versions, agreement with the CPU in both precisions, and speed.

Run it as `python -m tests.benchmarks.gpu_check`, or `make gpu-check`; without a card it says so and fails.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator

import torch

from numerics import Problem, simulate
from numerics.data import digits
from numerics.devices import exact_arithmetic
from numerics.models import CNN, MLP

RULE, HYPER = "rmsprop", dict(lr=0.004, beta2=0.99, eps=1e-4)
REPEATS = 5


def problems(examples: int) -> dict[str, Problem]:
    """Return the problems that are compared, on the CPU in float64."""
    x, y = digits(examples)
    return {
        "MLP 64-24-24-10": Problem.from_module(MLP((64, 24, 24, 10)), (x, y), "mse"),
        "CNN": Problem.from_module(CNN(), (x.reshape(-1, 1, 8, 8), y), "mse"),
    }


def distance(found: torch.Tensor, expected: torch.Tensor) -> float:
    """Return ‖found − expected‖/‖expected‖, evaluated on the CPU in float64."""
    reference = expected.cpu().double()
    return float((found.cpu().double() - reference).norm() / reference.norm())


def agreement(reference: Problem, problem: Problem) -> dict[str, float]:
    """Return the relative differences of gradient, Hessian product and third derivative at the start."""
    u = torch.sin(torch.arange(reference.n, dtype=reference.dtype, device=reference.device))[:, None]
    v = u.to(problem.w0)
    a, b = reference.linearise(reference.w0), problem.linearise(problem.w0)
    return {
        "gradient": distance(b.grad, a.grad),
        "Hessian product": distance(b.hessian_product(v), a.hessian_product(u)),
        "third derivative": distance(b.third(v, "exact"), a.third(u, "exact")),
    }


def seconds(work: Callable[[], object], device: torch.device) -> float:
    """Return the median time of some work, once it is warm."""
    times = []
    for _ in range(REPEATS + 1):
        started = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - started)
    return statistics.median(times[1:])


def central_step(problem: Problem, steps: int) -> float:
    """Return the seconds that a step of the central flow takes, over a few steps."""
    started: list[float] = []

    def mark(done: int, total: int) -> None:
        started.append(time.perf_counter())

    run = simulate(problem, RULE, HYPER, steps, warm_start=5, processes=("central",), check=False, progress=mark)
    assert not run.manifest["stopped"], run.manifest["stopped"]
    return (started[-1] - started[0]) / (steps - 1)


def page(device: torch.device, examples: int = 300, steps: int = 40) -> Iterator[str]:
    """Yield the lines about a device."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or "CPU"
    yield f"device: {device}, {name}"
    yield f"torch {torch.__version__}, CUDA {torch.version.cuda}, Python {platform.python_version()}"
    for title, cpu in problems(examples).items():
        yield f"\n{title}, {cpu.n} parameters, {examples} examples"
        for dtype in (torch.float64, torch.float32):
            there, here = cpu.to(device, dtype), cpu.to(dtype=dtype)
            for what, error in agreement(cpu, there).items():
                yield f"  {dtype}  {what}: differs from the CPU's float64 by {error:.1e}"
            gradients = [seconds(lambda p=p: p.gradient(p.w0), p.device) for p in (here, there)]
            flow = [central_step(p, steps) for p in (here, there)]
            for what, (cpu_time, card_time) in {"gradient": gradients, "central step": flow}.items():
                ratio = cpu_time / card_time
                yield f"  {dtype}  {what}: {1e3 * cpu_time:.3g} ms on the CPU, {1e3 * card_time:.3g} ms there, {ratio:.2f}×"


def main() -> int:
    """Print the page; return 1 where there is no card."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--examples", type=int, default=300)
    parser.add_argument("--steps", type=int, default=40, help="of the central flow that are timed")
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        sys.stderr.write("gpu-check needs a CUDA device, and this installation of torch finds none.\n")
        return 1
    with exact_arithmetic():
        for line in page(torch.device("cuda", 0), arguments.examples, arguments.steps):
            print(line, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
