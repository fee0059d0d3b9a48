"""Where a run computes: its device and precision, and the processes that `torchrun` started for it."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from numerics import Problem


def leads() -> bool:
    """Return whether this process is the only one of its run, or the one that speaks for all."""
    return int(os.environ.get("WORLD_SIZE", "1")) == 1 or os.environ.get("RANK", "0") == "0"


@contextmanager
def placed(device: str, dtype: str) -> Generator[Callable[[Problem], Problem], None, None]:
    """Hold the device, and the group of processes if there are several, for as long as the block runs.

    Args:
        device: cpu, cuda, cuda:N or mps.
        dtype: float64 or float32.

    Yields:
        What moves a problem there, and gives this process its share of the examples.
    """
    from numerics import sharded
    from numerics.devices import DTYPES, accept_device

    precision = DTYPES[dtype]
    where = accept_device(sharded.local_device(device), precision)
    if not sharded.launched():
        yield lambda problem: problem.to(where, precision)
        return
    with sharded.process_group(where):
        yield lambda problem: sharded.shard(problem.to(where, precision))
