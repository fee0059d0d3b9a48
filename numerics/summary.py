"""The headline figures of one run, from what it recorded."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Protocol

import numpy as np

from numerics.metrics import (
    deviation_explained,
    edge_window,
    onset_delay,
    predicted_loss_error,
    smooth,
    state_error,
    variance_ratio,
)
from numerics.pieces import Array

__all__ = ["RunLike", "Summary", "summarise"]


@dataclass(frozen=True)
class Summary:
    """The headline figures of one run; a figure which is not defined is None and `reasons` says why.

    `edge` is E as (first step, stop). The `*_absolute` figures are means over E in the units of the series; `stable_*`
    are the stable flow's. `edge_ratio_*`: midpoint top eigenvalue over λ* on E; `edge_ratio_critical`: the mean of as many midpoint
    eigenvalues as the central flow holds at λ*, since the largest of several that fluctuate is biased upwards. Dicts are by optimizer state.
    """

    steps: int
    complete: bool
    edge: tuple[int, int] | None = None
    edge_ratio_mean: float | None = None
    edge_ratio_max: float | None = None
    edge_ratio_critical: float | None = None
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
    ("midpoint critical eigenvalues / λ*, mean over E", "edge_ratio_critical", None),
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


def _edge_ratio_critical(view: _View) -> Iterable[object]:
    series = (("midpoint", "eigenvalues"), ("midpoint", "threshold"), (view.central, "critical"))
    (values, threshold, critical), E = view.on_edge(*series)
    held = np.arange(values.shape[1]) < critical[E, None]
    if not held.any():
        raise _UndefinedError(f"the {view.central} flow has no critical mode on the edge")
    return [float(np.nanmean((values / threshold[:, None])[E][held]))]


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
    (("edge_ratio_critical",), _edge_ratio_critical),
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
