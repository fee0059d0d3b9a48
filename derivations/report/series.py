"""What the figures draw: series of a run, cut, smoothed and compared."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from numerics.metrics import edge_window, smooth
from numerics.records import Run

Array: TypeAlias = npt.NDArray[Any]
_BLOCK = 4096  # coordinates smoothed at a time, which bounds the memory


def series(run: Run, process: str, name: str) -> Array | None:
    """Return one series as floats, None if it was not recorded or has no finite number."""
    if process not in run or name not in run[process].series:
        return None
    values = np.asarray(run[process].series[name], float)
    return values if values.size and np.isfinite(values).any() else None


def matrix(run: Run, process: str, name: str) -> Array | None:
    """Return a series as (T, k), None if it was not recorded."""
    values = series(run, process, name)
    return None if values is None else values.reshape(len(values), -1)


def state_names(run: Run) -> list[str]:
    """Return the optimizer states that both the discrete and the central process recorded, without step counters."""
    if "discrete" not in run or "central" not in run:
        return []
    names = [n for n in run["discrete"].series if n.startswith("states_series/") and n in run["central"].series]
    return [n for n in names if not _counts_steps(run["discrete"].series[n])]


def _counts_steps(values: Array) -> bool:
    return values.ndim == 1 and len(values) > 1 and bool(np.all(np.diff(values) == 1))


def norms(values: Array) -> Array:
    """Return the Euclidean norm of every row."""
    squares: Array = np.sum(values.reshape(len(values), -1) ** 2, axis=1)
    return np.asarray(np.sqrt(squares))


def smoothed_distance(run: Run, process: str) -> Array | None:
    """Return ‖s(w_discrete)_t − w_process(t)‖ per step, None where the weights were not kept."""
    discrete, flow = matrix(run, "discrete", "weights_series"), matrix(run, process, "weights_series")
    if discrete is None or flow is None or discrete.shape[1] != flow.shape[1]:
        return None
    rows = min(len(discrete), len(flow))
    squares = np.zeros(rows)
    for start in range(0, discrete.shape[1], _BLOCK):
        block = slice(start, start + _BLOCK)
        squares += np.sum((smooth(discrete[:rows, block]) - flow[:rows, block]) ** 2, axis=1)
    return np.sqrt(squares)


def edge(run: Run) -> slice | None:
    """Return the steps at the edge, None if they cannot be told."""
    tops, threshold = matrix(run, "midpoint", "eigenvalues"), series(run, "midpoint", "threshold")
    if threshold is None:
        threshold = series(run, "central", "threshold")
    if tops is None or threshold is None:
        return None
    rows = min(len(tops), len(threshold))
    return edge_window(tops[:rows, 0], threshold[:rows])
