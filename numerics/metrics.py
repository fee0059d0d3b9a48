"""The figures with which a flow is held against training (THEORY section 8), defined once and for all.

s(·) is Gaussian smoothing with σ = 8 steps, applied to both curves that are compared. All figures are taken over the
edge E: the steps from the first at which the *midpoint* top eigenvalue of P⁻¹H reaches 0.98 λ*, less the last 24 (3σ,
where smoothing leans on the end). Absolute figures stand beside ratios, the stable flow's beside the central flow's.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, NamedTuple, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter1d

__all__ = [
    "DeviationExplained",
    "RelativeError",
    "Summary",
    "VarianceRatio",
    "deviation_explained",
    "edge_window",
    "onset_delay",
    "path_length",
    "predicted_loss_error",
    "smooth",
    "state_error",
    "summarise",
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


# ---- the summary of a run


@dataclass(frozen=True)
class Summary:
    """The headline figures of one run; a figure which is not defined is None and `reasons` says why.

    `edge` is E as (first step, stop). The `*_absolute` figures are means over E in the units of the series; `stable_*`
    are the stable flow's. `edge_ratio_*`: midpoint top eigenvalue over λ* on E. Dicts are by optimizer state.
    """

    steps: int
    complete: bool
    edge: tuple[int, int] | None = None
    edge_ratio_mean: float | None = None
    edge_ratio_max: float | None = None
    loss_mean: float | None = None
    predicted_loss_error: float | None = None
    predicted_loss_error_absolute: float | None = None
    stable_loss_error: float | None = None
    stable_loss_error_absolute: float | None = None
    gradient_norm2_mean: float | None = None
    gradient_norm2_error: float | None = None
    gradient_norm2_error_absolute: float | None = None
    stable_gradient_norm2_error: float | None = None
    stable_gradient_norm2_error_absolute: float | None = None
    state_errors: Mapping[str, float] | None = None
    state_errors_absolute: Mapping[str, float] | None = None
    stable_state_errors: Mapping[str, float] | None = None
    stable_state_errors_absolute: Mapping[str, float] | None = None
    deviation_explained: float | None = None
    deviation_explained_minimum: float | None = None
    distance_central: float | None = None
    distance_stable: float | None = None
    path_length: float | None = None
    variance_ratio: float | None = None
    variance_predicted: float | None = None
    variance_measured: float | None = None
    onset_delay: int | None = None
    critical_max: int | None = None
    cost_per_step: float | None = None
    reasons: Mapping[str, str] = field(default_factory=dict)

    def as_rows(self) -> list[tuple[str, str, str, str]]:
        """Return the lines of a table: figure, central flow's value, stable flow's value, why it is missing."""
        return [row for label, central, stable in _TABLE for row in self._rows(label, central, stable)]

    def _rows(self, label: str, central: str, stable: str | None) -> Iterator[tuple[str, str, str, str]]:
        value, beside = getattr(self, central), None if stable is None else getattr(self, stable)
        note = self.reasons.get(central, "") or self.reasons.get(stable or "", "")
        if isinstance(value, Mapping):
            for name in value:
                yield f"{label}, {name}", _shown(value[name]), _shown((beside or {}).get(name)), note
        else:
            yield label, _shown(value), _shown(beside), note

    def as_dict(self) -> dict[str, Any]:
        """Return all figures, ready for JSON."""
        plain = {f.name: getattr(self, f.name) for f in fields(self)}
        return {
            name: dict(value) if isinstance(value, Mapping) else list(value) if isinstance(value, tuple) else value
            for name, value in plain.items()
        }


_TABLE: tuple[tuple[str, str, str | None], ...] = (
    ("edge E: first step, stop", "edge", None),
    ("midpoint top eigenvalue / λ*, mean over E", "edge_ratio_mean", None),
    ("midpoint top eigenvalue / λ*, greatest in E", "edge_ratio_max", None),
    ("predicted loss, relative error", "predicted_loss_error", "stable_loss_error"),
    ("predicted loss, mean absolute error", "predicted_loss_error_absolute", "stable_loss_error_absolute"),
    ("smoothed loss, mean over E", "loss_mean", None),
    ("predicted ‖∇L‖², relative error", "gradient_norm2_error", "stable_gradient_norm2_error"),
    ("predicted ‖∇L‖², mean absolute error", "gradient_norm2_error_absolute", "stable_gradient_norm2_error_absolute"),
    ("smoothed ‖∇L‖², mean over E", "gradient_norm2_mean", None),
    ("state, relative error", "state_errors", "stable_state_errors"),
    ("state, mean absolute error", "state_errors_absolute", "stable_state_errors_absolute"),
    ("deviation explained, last step of E", "deviation_explained", None),
    ("deviation explained, least in 2nd half of E", "deviation_explained_minimum", None),
    ("distance to the smoothed weights, last step of E", "distance_central", "distance_stable"),
    ("length of the smoothed path up to there", "path_length", None),
    ("oscillation variance, predicted / measured", "variance_ratio", None),
    ("oscillation variance predicted, mean over E", "variance_predicted", None),
    ("oscillation variance measured, mean over E", "variance_measured", None),
    ("onset delay, steps", "onset_delay", None),
    ("critical modes, most at once", "critical_max", None),
    ("cost, gradients per step", "cost_per_step", None),
)


def _shown(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, tuple):
        return ", ".join(str(part) for part in value)
    return str(value) if isinstance(value, int) else f"{value:.4g}"


class _Record(Protocol):
    @property
    def steps(self) -> int: ...
    def __contains__(self, name: object, /) -> bool: ...
    def __getitem__(self, name: str, /) -> Any: ...


class RunLike(Protocol):
    """What `summarise` needs of a `Run`."""

    @property
    def processes(self) -> Mapping[str, Any]:
        """Name → record, which gives series by their full names."""

    @property
    def steps_done(self) -> int:
        """Rows of the process that got farthest."""

    @property
    def complete(self) -> bool:
        """Whether the run reached its end."""


class _UndefinedError(Exception):
    """Why a figure is not defined; always turned into an entry of `reasons`."""


@dataclass(frozen=True)
class _View:
    """A run as the figures below see it: series by process, cut to common length, and the edge."""

    processes: Mapping[str, _Record]
    central: str
    stable: str

    def record(self, process: str) -> _Record:
        if process not in self.processes:
            raise _UndefinedError(f"the run has no {process} process")
        return self.processes[process]

    def series(self, process: str, name: str) -> Array:
        record = self.record(process)
        if name not in record:
            raise _UndefinedError(f"the {process} process recorded no {name}")
        return np.asarray(record[name])

    def edge(self) -> slice:
        tops = self.series("midpoint", "eigenvalues")
        top = tops[:, 0] if tops.shape[1] else np.full(len(tops), np.nan)
        ratio = top / self.series("midpoint", "threshold")[: len(top)]
        found = edge_window(ratio, 1.0)
        if found is None and np.isfinite(ratio).any() and np.nanmax(ratio) >= 0.98:
            raise _UndefinedError("the midpoints reached the edge only in the last 24 steps")
        if found is None:
            greatest = f"{np.nanmax(ratio):.3g} λ* at most" if np.isfinite(ratio).any() else "no eigenvalues recorded"
            raise _UndefinedError(f"the midpoints never reached 0.98 λ* ({greatest})")
        return found

    def on_edge(self, *series: tuple[str, str]) -> tuple[list[Array], slice]:
        """Return the series cut to their common length and as much of E as that leaves.

        Raises:
            _UndefinedError: nothing of E is left.
        """
        E = self.edge()
        found = [self.series(process, name) for process, name in series]
        rows = min(len(x) for x in found)
        if rows <= E.start:
            raise _UndefinedError(f"{', '.join(dict.fromkeys(p for p, _ in series))} ended before the edge")
        return [x[:rows] for x in found], slice(E.start, min(E.stop, rows))


def _edge(view: _View) -> Iterable[object]:
    E = view.edge()
    return [(E.start, E.stop)]


def _edge_ratio(view: _View) -> Iterable[object]:
    (tops, threshold), E = view.on_edge(("midpoint", "eigenvalues"), ("midpoint", "threshold"))
    ratio = (tops[:, 0] / threshold)[E]
    return [float(np.nanmean(ratio)), float(np.nanmax(ratio))]


def _scalar_error(name: str, process: Callable[[_View], str], series: str) -> Callable[[_View], Iterable[object]]:
    def figures(view: _View) -> Iterable[object]:
        (measured, predicted), E = view.on_edge(("discrete", name), (process(view), series))
        return predicted_loss_error(measured, predicted, E)[:2]

    return figures


def _mean(name: str) -> Callable[[_View], Iterable[object]]:
    def figures(view: _View) -> Iterable[object]:
        (measured,), E = view.on_edge(("discrete", name))
        return [float(np.mean(smooth(measured)[E]))]

    return figures


def _state_errors(process: Callable[[_View], str]) -> Callable[[_View], Iterable[object]]:
    def figures(view: _View) -> Iterable[object]:
        ours, theirs = view.record("discrete")["states_series"], view.record(process(view))["states_series"]
        names = [name for name in ours if name in theirs and name != "t"]  # t counts steps
        if not names:
            raise _UndefinedError(f"discrete and {process(view)} recorded no state in common")
        errors = {}
        for name in names:
            pair = [(of, f"states_series/{name}") for of in ("discrete", process(view))]
            (measured, predicted), E = view.on_edge(*pair)
            errors[name] = state_error(measured, predicted, E)
        return [{n: e.relative for n, e in errors.items()}, {n: e.absolute for n, e in errors.items()}]

    return figures


def _deviation(view: _View) -> Iterable[object]:
    weights = [(process, "weights_series") for process in ("discrete", view.central, view.stable)]
    (discrete, central, stable), E = view.on_edge(*weights)
    return deviation_explained(discrete, central, stable, E)


def _variances(view: _View) -> Iterable[object]:
    (variances, squares), E = view.on_edge((view.central, "variances"), (view.central, "displacement_squares"))
    return variance_ratio(variances, squares, E)


def _onset(view: _View) -> Iterable[object]:
    variances, squares = view.series(view.central, "variances"), view.series(view.central, "displacement_squares")
    delay = onset_delay(variances, squares)
    if delay is None:
        raise _UndefinedError("no oscillation was predicted, or the discrete run never reached half of it")
    return [delay]


def _critical(view: _View) -> Iterable[object]:
    return [int(np.max(_finite_values(view.series(view.central, "critical"))))]


def _cost(view: _View) -> Iterable[object]:
    return [float(np.mean(_finite_values(view.series(view.central, "cost/total"))))]


def _finite_values(series: Array) -> Array:
    found = series[np.isfinite(series)]
    if not found.size:
        raise _UndefinedError("the series has no finite value")
    return found


_FIGURES: tuple[tuple[tuple[str, ...], Callable[[_View], Iterable[object]]], ...] = (
    (("edge",), _edge),
    (("edge_ratio_mean", "edge_ratio_max"), _edge_ratio),
    (("loss_mean",), _mean("loss")),
    (
        ("predicted_loss_error", "predicted_loss_error_absolute"),
        _scalar_error("loss", lambda view: view.central, "predicted_loss"),
    ),
    (("stable_loss_error", "stable_loss_error_absolute"), _scalar_error("loss", lambda view: view.stable, "loss")),
    (("gradient_norm2_mean",), _mean("gradient_norm2")),
    (
        ("gradient_norm2_error", "gradient_norm2_error_absolute"),
        _scalar_error("gradient_norm2", lambda view: view.central, "predicted_gradient_norm2"),
    ),
    (
        ("stable_gradient_norm2_error", "stable_gradient_norm2_error_absolute"),
        _scalar_error("gradient_norm2", lambda view: view.stable, "gradient_norm2"),
    ),
    (("state_errors", "state_errors_absolute"), _state_errors(lambda view: view.central)),
    (("stable_state_errors", "stable_state_errors_absolute"), _state_errors(lambda view: view.stable)),
    (
        ("deviation_explained", "deviation_explained_minimum", "distance_central", "distance_stable", "path_length"),
        _deviation,
    ),
    (("variance_ratio", "variance_predicted", "variance_measured"), _variances),
    (("onset_delay",), _onset),
    (("critical_max",), _critical),
    (("cost_per_step",), _cost),
)


def summarise(run: RunLike, *, central: str = "central", stable: str = "stable") -> Summary:
    """Return all headline figures that the records allow.

    Args:
        run: with the processes discrete, midpoint and the two flows; whatever is missing leaves its figures None.
        central: the process to hold against the discrete one, for instance an ablated or a restarted flow.
        stable: the one which stands beside it.
    """
    view = _View(run.processes, central, stable)
    figures: dict[str, Any] = {}
    reasons: dict[str, str] = {}
    for names, compute in _FIGURES:
        try:
            found = dict(zip(names, compute(view), strict=True))
        except _UndefinedError as undefined:
            reasons |= dict.fromkeys(names, str(undefined))
            continue
        for name, value in found.items():
            figures[name], lost = _finite_part(value)
            if lost:
                reasons[name] = f"{lost} not finite (a diverged process or a division by zero)"
    return Summary(steps=run.steps_done, complete=run.complete, reasons=reasons, **figures)


def _finite_part(value: object) -> tuple[object, str]:
    """Return what is finite of a figure, None if nothing is, and which part is not."""
    if isinstance(value, Mapping):
        finite = {name: entry for name, entry in value.items() if math.isfinite(entry)}
        lost = ", ".join(name for name in value if name not in finite)
        return finite or None, f"{lost} is" if lost else ""
    return (None, "it is") if isinstance(value, float) and not math.isfinite(value) else (value, "")
