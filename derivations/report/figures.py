"""The figures of a report, one function each; a figure whose series were not recorded is left out."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from derivations.report import style
from derivations.report.series import Array, edge, matrix, norms, series, smoothed_distance, state_names
from numerics.metrics import smooth
from numerics.records import Run

SHOWN_MODES = 4
SHOWN_COORDINATES = 4
SCATTER_POINTS = 3000


@dataclass(frozen=True)
class Drawing:
    """A finished figure: the stem of its file, its title and caption, and the SVG text."""

    stem: str
    title: str
    caption: str
    svg: str


def draw_figures(run: Run) -> list[Drawing]:
    """Return all figures that the records of a run allow, in the order of the report."""
    drawings = []
    for stem, (title, caption, draw) in _FIGURES.items():
        with mpl.rc_context(style.MATPLOTLIB):
            figure = draw(run)
            if figure is not None:
                drawings.append(Drawing(stem, title, caption, _svg(figure)))
    return drawings


def _svg(figure: Figure) -> str:
    file = io.StringIO()
    figure.savefig(file, format="svg", metadata={"Date": None})
    return file.getvalue()


def _axes(columns: int = 1, rows: int = 1, *, height: float = 3.2) -> tuple[Figure, list[Any]]:
    figure = Figure(figsize=(9.6, height * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    return figure, list(axes.flat)


def _finish(axes: Any, run: Run, label: str, *, log: bool = False, above: int = 0) -> None:
    """Shade the edge, name the axes and place the legend: above them in so many columns, or inside them."""
    steps = edge(run)
    if steps is not None:
        axes.axvspan(steps.start, steps.stop - 1, color="#F3F6FA", zorder=0, linewidth=0)
    if log:
        axes.set_yscale("log")
    axes.set(xlabel="step", ylabel=label)
    axes.margins(x=0.01)
    if above:
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=above, borderaxespad=0.2)
    elif axes.get_legend_handles_labels()[0]:
        axes.legend()


def _spans_decades(values: Array) -> bool:
    positive = values[np.isfinite(values) & (values > 0)]
    return positive.size == np.isfinite(values).sum() and bool(positive.size) and positive.max() > 10 * positive.min()


def _prediction(run: Run, measured: str, predicted: str, label: str) -> Figure | None:
    """Return a measured scalar series beside the central flow's prediction of its average and the stable flow."""
    discrete = series(run, "discrete", measured)
    if discrete is None:
        return None
    figure, (axes,) = _axes()
    axes.plot(discrete, color=style.FAINT, linewidth=0.8, label="optimizer")
    axes.plot(smooth(discrete), color=style.INK, label="optimizer, smoothed")
    for process, name, colour, line, text in (
        ("central", predicted, style.CENTRAL, "--", "central flow, predicted average"),
        ("central", measured, style.CENTRAL, ":", "central flow, at its own weights"),
        ("stable", measured, style.STABLE, "-.", "stable flow"),
    ):
        values = series(run, process, name)
        if values is not None:
            axes.plot(values, color=colour, linestyle=line, label=text, linewidth=1.1 if line == ":" else 1.6)
    for process, (colour, line) in style.OTHERS.items():
        values = series(run, process, predicted)
        if values is not None:
            axes.plot(values, color=colour, linestyle=line, label=f"{process}, predicted average", linewidth=1.1)
    _finish(axes, run, label, log=_spans_decades(discrete), above=3)
    return figure


def _loss(run: Run) -> Figure | None:
    return _prediction(run, "loss", "predicted_loss", "training loss")


def _gradient(run: Run) -> Figure | None:
    return _prediction(run, "gradient_norm2", "predicted_gradient_norm2", "‖∇L‖²")


def _eigenvalues(run: Run) -> Figure | None:
    found = {p: matrix(run, p, "eigenvalues") for p in ("midpoint", "central", "stable")}
    if found["midpoint"] is None and found["central"] is None:
        return None
    figure, (axes,) = _axes(height=3.6)
    for process, colour, modes, line, width in (
        ("stable", style.STABLE, 1, "-.", 1.2),
        ("midpoint", style.MIDPOINT, SHOWN_MODES, "-", 2.2),
        ("central", style.CENTRAL, SHOWN_MODES, "-", 1.0),
    ):
        values = found[process]
        for mode in range(0 if values is None else min(modes, values.shape[1])):
            assert values is not None
            label = {"stable": "stable flow, largest", "midpoint": "optimizer's midpoints", "central": "central flow"}[
                process
            ]
            axes.plot(
                values[:, mode],
                color=colour,
                linestyle=line,
                linewidth=width,
                alpha=1 - 0.15 * mode,
                label=label if mode == 0 else None,
            )
    for process, (colour, line) in style.OTHERS.items():
        top = matrix(run, process, "eigenvalues")
        if top is not None:
            axes.plot(top[:, 0], color=colour, linestyle=line, linewidth=1.0, label=f"{process}, largest")
    threshold = series(run, "central", "threshold")
    threshold = series(run, "midpoint", "threshold") if threshold is None else threshold
    if threshold is not None:
        axes.plot(threshold, color=style.INK, linestyle="--", linewidth=1, label="threshold λ*")
        # The stable flow leaves the stable set without bound; the figure is about the edge.
        tops = [v for p in ("midpoint", "central") if (v := found[p]) is not None]
        highest = max(np.nanmax(np.where(np.isfinite(v), v, 0)) for v in tops)
        axes.set_ylim(0, float(min(max(1.15 * highest, 1.3 * np.nanmax(threshold)), 2.6 * np.nanmax(threshold))))
    _finish(axes, run, "eigenvalues of P⁻¹H", above=4)
    return figure


def _variances(run: Run) -> Figure | None:
    predicted, measured = matrix(run, "central", "variances"), matrix(run, "central", "displacement_squares")
    if predicted is None:
        return None
    width = predicted.shape[1] if measured is None else min(predicted.shape[1], measured.shape[1])
    predicted = np.nan_to_num(predicted[:, :width])
    active = [i for i in range(min(width, SHOWN_MODES)) if np.any(predicted[:, i] > 0)] or [0]
    panels = [
        (predicted[:, i], None if measured is None else np.nan_to_num(measured[:, i]), f"direction {i + 1}")
        for i in active
    ]
    total = None if measured is None else np.nan_to_num(measured[:, :width]).sum(axis=1)
    panels.append((predicted.sum(axis=1), total, "all directions together"))
    columns = 2
    figure, axes = _axes(columns, -(-len(panels) // columns), height=2.5)
    for panel, (flow, squares, title) in zip(axes, panels, strict=False):
        lines = {}
        if squares is not None:
            lines["optimizer: squared displacement"] = panel.plot(squares, color=style.FAINT, linewidth=0.6)
            lines["the same, smoothed"] = panel.plot(smooth(squares), color=style.INK)
        lines["central flow: eigenvalue of X"] = panel.plot(flow, color=style.CENTRAL, linestyle="--")
        if panel is axes[0]:
            handles = [line for (line,) in lines.values()]
            figure.legend(handles, list(lines), loc="outside upper left", ncols=len(lines))
        highest = max(flow.max(), 0 if squares is None else smooth(squares).max())
        if highest > 0:
            panel.set_ylim(-0.03 * highest, 1.35 * highest)
        panel.set_title(title)
        _finish(panel, run, "variance")
    for panel in axes[len(panels) :]:
        panel.set_visible(False)
    return figure


def _states(run: Run) -> Figure | None:
    names = state_names(run)
    if not names:
        return None
    shapes = [matrix(run, "discrete", name) for name in names]
    columns = 3 if any(values is not None and values.shape[1] > 1 for values in shapes) else 1
    figure, axes = _axes(columns, len(names), height=3.2)
    for row, name in enumerate(names):
        norm_panel, *others = axes[columns * row : columns * (row + 1)]
        short = name.removeprefix("states_series/")
        discrete, flow = matrix(run, "discrete", name), matrix(run, "central", name)
        if discrete is None or flow is None:
            continue
        _state_norms(norm_panel, run, name, short)
        if discrete.shape[1] > 1:
            _state_coordinates(others[0], run, discrete, flow, short)
            _state_scatter(others[1], run, discrete, flow, short)
        else:
            for panel in others:
                panel.set_visible(False)
    return figure


def _state_norms(axes: Any, run: Run, name: str, short: str) -> None:
    for process, colour, line in (
        ("discrete", style.INK, "-"),
        ("stable", style.STABLE, "-."),
        ("central", style.CENTRAL, "--"),
    ):
        values = matrix(run, process, name)
        if values is not None:
            shown = smooth(values) if process == "discrete" else values
            axes.plot(
                norms(shown),
                color=colour,
                linestyle=line,
                label={"discrete": "optimizer, smoothed"}.get(process, f"{process} flow"),
            )
    _finish(axes, run, f"‖{short}‖", above=2)


def _state_coordinates(axes: Any, run: Run, discrete: Array, flow: Array, short: str) -> None:
    """Draw the coordinates that stand at even ranks among the large ones, so that none is picked by hand."""
    order = np.argsort(-np.nan_to_num(discrete[-1]))
    ranks = np.linspace(0, max(len(order) // 10, SHOWN_COORDINATES) - 1, SHOWN_COORDINATES).astype(int)
    for colour, i in zip(style.MODES, dict.fromkeys(order[ranks[ranks < len(order)]]), strict=False):
        axes.plot(smooth(discrete[:, i]), color=colour, linewidth=1.2, label=f"no. {i}")
        axes.plot(flow[:, i], color=colour, linestyle="--", linewidth=1.2)
    positive = np.nanmin(discrete[:, order[ranks[-1] if ranks[-1] < len(order) else -1]]) > 0
    _finish(axes, run, f"{short}, single coordinates", log=bool(positive), above=2)


def _state_scatter(axes: Any, run: Run, discrete: Array, flow: Array, short: str) -> None:
    steps = edge(run)
    rows = min(len(discrete), len(flow))
    at = rows - 1 if steps is None else min(steps.stop, rows) - 1
    measured, predicted = smooth(discrete)[at], flow[at]
    positive = (measured > 0) & (predicted > 0)
    chosen = np.flatnonzero(positive)
    if not chosen.size:
        axes.set_visible(False)
        return
    chosen = chosen[np.linspace(0, chosen.size - 1, min(chosen.size, SCATTER_POINTS)).astype(int)]
    axes.scatter(
        measured[chosen], predicted[chosen], s=4, color=style.CENTRAL, alpha=0.35, linewidths=0, rasterized=True
    )
    low, high = measured[chosen].min(), measured[chosen].max()
    axes.plot([low, high], [low, high], color=style.INK, linewidth=0.8)
    axes.set(
        xscale="log", yscale="log", xlabel=f"{short} of the optimizer, smoothed", ylabel=f"{short} of the central flow"
    )
    axes.set_title(f"every coordinate, step {at}")


def _distances(run: Run) -> Figure | None:
    styles = {"stable": (style.STABLE, "-."), "central": (style.CENTRAL, "-")} | style.OTHERS
    found = {p: values for p in styles if (values := smoothed_distance(run, p)) is not None}
    if not found:
        return None
    figure, (axes,) = _axes()
    for process, values in found.items():
        colour, line = styles[process]
        axes.plot(values, color=colour, linestyle=line, label=f"smoothed optimizer to {process} flow")
    _finish(axes, run, "distance of the weights", above=2)
    return figure


def _cost(run: Run) -> Figure | None:
    if "central" not in run or not run["central"].cost:
        return None
    recorded = run["central"].cost
    order = [
        *(name for name in style.PHASES if name in recorded),
        *(name for name in recorded if name not in {*style.PHASES, "total"}),
    ]
    cost = {name: np.nan_to_num(np.asarray(recorded[name], float)) for name in order}
    figure, (axes,) = _axes(height=2.8)
    names = {"grad": "gradient", "eig": "eigenvectors", "third": "third derivatives", "sdcp": "covariance"}
    axes.stackplot(
        np.arange(run["central"].steps),
        *cost.values(),
        labels=[f"{names.get(name, name)}, mean {values.mean():.3g}" for name, values in cost.items()],
        colors=[style.PHASES.get(name, style.FAINT) for name in cost],
        linewidth=0,
    )
    _finish(axes, run, "gradient equivalents per step", above=len(cost))
    axes.set_ylim(0, 1.05 * max(float(sum(cost.values()).max()), 1.0))
    return figure


_FIGURES: dict[str, tuple[str, str, Callable[[Run], Figure | None]]] = {
    "loss": (
        "Loss",
        "The optimizer's loss and its average as the central flow predicts it, L + ½λ* tr X. "
        "Where the stable flow departs, the oscillation matters. "
        "The shaded steps are the edge, over which the figures above are taken.",
        _loss,
    ),
    "eigenvalues": (
        "Eigenvalues of P⁻¹H",
        "The largest eigenvalues at the optimizer's midpoints and along the central flow, "
        "with the threshold derived from the rule.",
        _eigenvalues,
    ),
    "variances": (
        "Oscillation",
        "Eigenvalues of the predicted covariance X, "
        "with the optimizer's squared displacements from the flow along the same directions; "
        "single peaks beyond the panel are cut off.",
        _variances,
    ),
    "states": (
        "Optimizer states",
        "The optimizer's own accumulators against the flow's: norm; of a state with coordinates also "
        "four of them, evenly ranked among the largest tenth (dashed: flow), and all positive ones at once.",
        _states,
    ),
    "gradient": (
        "Gradient norm",
        "Squared gradient norm and its predicted average, ‖∇L + ½∇⟨H,Σ⟩‖² + tr HΣH.",
        _gradient,
    ),
    "distances": (
        "Distance in weight space",
        "Euclidean distance of each flow from the smoothed optimizer. "
        "The flows were given the start, and nothing later.",
        _distances,
    ),
    "cost": ("Cost", "What a step of the central flow costs, in gradients of the training loss.", _cost),
}
