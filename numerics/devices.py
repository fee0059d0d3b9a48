"""The device and the precision of a computation: names → torch, refusals, and arithmetic without shortcuts."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager

import torch

from numerics.errors import InputRefused

__all__ = ["DTYPES", "accept_device", "exact_arithmetic"]

DTYPES = {"float64": torch.float64, "float32": torch.float32}
KINDS = ("cpu", "cuda", "mps")
# cuBLAS sums in a fixed order only if it is given its workspace before it starts.
CUBLAS_WORKSPACE = ("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


def accept_device(name: str, dtype: torch.dtype) -> torch.device:
    """Return the device of that name.

    Args:
        name: cpu, cuda, cuda:N or mps.
        dtype: in which it shall compute.

    Raises:
        InputRefused: it is unknown, absent, or cannot compute in this precision.
    """
    kind = name.partition(":")[0]
    if kind not in KINDS:
        raise InputRefused(f"device must be one of {', '.join(KINDS)}, got {name!r}; choose one of them")
    if kind == "cuda" and not torch.cuda.is_available():
        raise InputRefused(f"device {name} needs a CUDA device, and this installation of torch finds none; use cpu")
    if kind == "mps" and not torch.backends.mps.is_available():
        raise InputRefused("device mps needs Apple's Metal, and this installation of torch finds none; use cpu")
    device = torch.device(name)
    if kind == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise InputRefused(
            f"device {name} is not there, as torch finds {torch.cuda.device_count()} CUDA devices; count from cuda:0"
        )
    if kind == "mps" and dtype == torch.float64:
        raise InputRefused("device mps computes in float32 only, got float64; add --dtype float32, or use cpu")
    return device


@contextmanager
def exact_arithmetic(*, deterministic: bool = False) -> Generator[None, None, None]:
    """Let products be rounded as their precision says (no TF32) for as long as the block runs.

    TF32 keeps 10 bits of a float32 factor, and with them no third derivative.

    Args:
        deterministic: also use algorithms whose sums have a fixed order; an operation without one raises RuntimeError.

    Yields:
        Nothing; torch's settings are put back afterwards.
    """
    cudnn = torch.backends.cudnn
    before = torch.get_float32_matmul_precision(), cudnn.allow_tf32, cudnn.benchmark
    strict = torch.are_deterministic_algorithms_enabled()
    torch.set_float32_matmul_precision("highest")
    cudnn.allow_tf32 = False
    if deterministic:
        os.environ.setdefault(*CUBLAS_WORKSPACE)
        cudnn.benchmark = False
        torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before[0])
        cudnn.allow_tf32, cudnn.benchmark = before[1], before[2]
        torch.use_deterministic_algorithms(strict)
