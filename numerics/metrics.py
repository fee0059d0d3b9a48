"""The figures with which a flow is held against training (THEORY section 8), defined once and for all.

s(·) is Gaussian smoothing with σ = 8 steps, applied to both curves that are compared. All figures are taken over the
edge E: the steps from the first at which the *midpoint* top eigenvalue of P⁻¹H reaches 0.98 λ*, less the last 24 (3σ,
where smoothing leans on the end). Absolute figures stand beside ratios, the stable flow's beside the central flow's.
"""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter1d

__all__ = [
    "DeviationExplained",
    "RelativeError",
    "VarianceRatio",
    "deviation_explained",
    "edge_window",
    "onset_delay",
    "path_length",
    "predicted_loss_error",
    "smooth",
    "state_error",
    "variance_ratio",
]

Array: TypeAlias = npt.NDArray[Any]
_BLOCK = 4096  # coordinates of w smoothed at a time, which bounds the memory


class RelativeError(NamedTuple):
    """A ratio with its absolute figure and the scale: relative = absolute / scale for sums, all means over E."""

    relative: float
    absolute: float
    scale: float


class DeviationExplained(NamedTuple):
    """1 − ‖w̃ − w_central‖² / ‖w̃ − w_stable‖² with the plain distances at the last step of E."""

    final: float
    minimum: float
    distance_central: float
    distance_stable: float
    path_length: float


class VarianceRatio(NamedTuple):
    """Predicted over measured oscillation variance, and both means over E."""

    ratio: float
    predicted: float
    measured: float


def smooth(x: Array, sigma: float = 8) -> Array:
    """Return s(x): Gaussian smoothing along axis 0 with `sigma` steps, the ends continued by their own value.

    Leading rows that hold a NaN (a process which starts later) stay NaN and are left out.
    """
    x = np.asarray(x, float)
    defined = np.isfinite(x.reshape(len(x), -1)).all(axis=1) if x.size else np.ones(len(x), bool)
    first = int(np.argmax(defined)) if defined.any() else len(x)
    smoothed = np.full(x.shape, np.nan)
    if first < len(x):
        smoothed[first:] = gaussian_filter1d(x[first:], sigma, axis=0, mode="nearest")
    return smoothed


def edge_window(
    midpoint_top_eigenvalue: Array, threshold: Array | float, fraction: float = 0.98, tail: int = 24
) -> slice | None:
    """Return E: steps from the first with λ₁(midpoint) ≥ fraction · λ*, less the last `tail`; None if none is left.

    Steps at which no eigenvalue was computed (NaN) do not count as reaching the edge.

    Args:
        midpoint_top_eigenvalue: (T,) largest eigenvalue of P⁻¹H at the midpoints.
        threshold: (T,) or a number, λ*.
        fraction: of the threshold.
        tail: steps left out at the end.
    """
    reached = np.asarray(midpoint_top_eigenvalue) >= fraction * np.asarray(threshold)  # NaN compares false
    stop = len(reached) - tail
    first = int(np.argmax(reached)) if reached.any() else stop
    return slice(first, stop) if first < stop else None


def predicted_loss_error(L: Array, L_hat: Array, E: slice) -> RelativeError:
    """Return ∑_E |s(L_t) − s(L̂_t)| / ∑_E s(L_t), with the mean of the numerator and of the denominator.

    Serves for ‖∇L‖² too.

    Args:
        L: (T,) the discrete run's series.
        L_hat: (T,) its prediction, (T6), or a flow's own series.
        E: steps compared.
    """
    measured, predicted = smooth(L)[E], smooth(L_hat)[E]
    absolute, scale = float(np.mean(np.abs(measured - predicted))), float(np.mean(measured))
    return RelativeError(_ratio(absolute, scale), absolute, scale)


def state_error(nu_discrete: Array, nu_flow: Array, E: slice) -> RelativeError:
    """Return mean_E ‖s(ν)_t − ν(t)‖ / ‖s(ν)_t‖, and the means of either norm; only the discrete ν is smoothed.

    Args:
        nu_discrete: (T, n) or (T,) the optimizer's accumulator.
        nu_flow: the same of the flow.
        E: steps compared.
    """
    differences = _gap_norms(nu_discrete, nu_flow)[E]
    scales = _gap_norms(nu_discrete)[E]
    ratios = [_ratio(difference, scale) for difference, scale in zip(differences, scales, strict=True)]
    return RelativeError(float(np.mean(ratios)), float(np.mean(differences)), float(np.mean(scales)))


def deviation_explained(w_discrete: Array, w_central: Array, w_stable: Array, E: slice) -> DeviationExplained:
    """Return 1 − ‖w̃_t − w_central(t)‖² / ‖w̃_t − w_stable(t)‖², w̃ = s(w_discrete).

    `final` is its value at the last step of E, `minimum` its least over the second half of E. The denominator is weak
    once the stable flow has left the stable set, so the distances and the length of the path of w̃ from step 0 to the
    last step of E stand beside it.

    Args:
        w_discrete: (T, n) weights of the optimizer.
        w_central: (T, n) of the central flow.
        w_stable: (T, n) of the stable flow.
        E: steps compared.
    """
    central, stable = _gap_norms(w_discrete, w_central)[E], _gap_norms(w_discrete, w_stable)[E]
    explained = np.array([1 - _ratio(a, b) ** 2 for a, b in zip(central, stable, strict=True)])
    second_half = explained[len(explained) // 2 :]
    return DeviationExplained(
        final=float(explained[-1]),
        minimum=float(np.min(second_half)),
        distance_central=float(central[-1]),
        distance_stable=float(stable[-1]),
        path_length=path_length(w_discrete, E.stop),
    )


def path_length(w: Array, stop: int | None = None) -> float:
    """Return ∑ ‖w̃_{t+1} − w̃_t‖ of the smoothed path up to step `stop` − 1; w has shape (T, n)."""
    squares = sum(np.sum(np.diff(block[:stop], axis=0) ** 2, axis=1) for block in _smoothed_blocks(w))
    return float(np.sum(np.sqrt(squares)))


def variance_ratio(variances: Array, displacement_squares: Array, E: slice) -> VarianceRatio:
    """Return ∑_i D_ii over smoothed ∑_i ((UQ)_iᵀPδ_t)², X = QDQᵀ, both averaged over E.

    Entries which one of the two lacks (NaN) count in neither.

    Args:
        variances: (T, k) eigenvalues of the predicted X, NaN-padded.
        displacement_squares: (T, k) the discrete run's squared displacements along the same directions.
        E: steps compared.
    """
    predicted, measured = _common(variances, displacement_squares)
    mean_predicted = float(np.mean(predicted[E].sum(axis=1)))
    mean_measured = float(np.mean(smooth(measured.sum(axis=1))[E]))
    return VarianceRatio(_ratio(mean_predicted, mean_measured), mean_predicted, mean_measured)


def onset_delay(variances: Array, displacement_squares: Array) -> int | None:
    """Return the steps from the first with tr X > 0 to the first at which ∑_i ((UQ)_iᵀPδ_t)² reaches tr X / 2.

    None if X stays 0 or the discrete run never oscillates that much. In float64 an oscillation grows from round-off,
    so this can be long without a kick. Arguments as in `variance_ratio`, nothing is smoothed.
    """
    predicted, measured = (x.sum(axis=1) for x in _common(variances, displacement_squares))
    oscillating = np.flatnonzero(predicted > 0)
    if not oscillating.size:
        return None
    first = int(oscillating[0])
    arrived = np.flatnonzero((predicted[first:] > 0) & (measured[first:] >= predicted[first:] / 2))
    return int(arrived[0]) if arrived.size else None


def _ratio(numerator: float, denominator: float) -> float:
    return float(numerator) / float(denominator) if denominator else math.nan


def _common(a: Array, b: Array) -> tuple[Array, Array]:
    """Return both cut to the columns of the narrower, with 0 where either is NaN."""
    width = min(a.shape[1], b.shape[1])
    a, b = a[:, :width], b[:, :width]
    missing = np.isnan(a) | np.isnan(b)
    return np.where(missing, 0.0, a), np.where(missing, 0.0, b)


def _smoothed_blocks(x: Array) -> Iterator[Array]:
    columns = x.reshape(len(x), -1)
    for start in range(0, columns.shape[1], _BLOCK):
        yield smooth(columns[:, start : start + _BLOCK])


def _gap_norms(discrete: Array, flow: Array | None = None) -> Array:
    """Return ‖s(discrete)_t − flow_t‖ for every t, shape (T,); without a flow, ‖s(discrete)_t‖."""
    columns = None if flow is None else flow.reshape(len(flow), -1)
    squares, start = np.zeros(len(discrete)), 0
    for block in _smoothed_blocks(discrete):
        stop = start + block.shape[1]
        squares += np.sum((block if columns is None else block - columns[:, start:stop]) ** 2, axis=1)
        start = stop
    return np.sqrt(squares)
