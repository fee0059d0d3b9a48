"""Metrics against slow, obvious loops and small cases computed by hand."""

import json
import math

import numpy as np
import pytest

from numerics import metrics
from numerics import summary as summary_module
from numerics.metrics import (
    deviation_explained,
    edge_window,
    onset_delay,
    path_length,
    predicted_loss_error,
    smooth,
    state_error,
    variance_ratio,
)
from numerics.records import Run
from numerics.run_directory import MemoryRecords
from numerics.summary import Summary, summarise

T, N, FIRST = 90, 6, 20
E = slice(FIRST, T - 24)


def slow_smooth(x: np.ndarray, sigma: float = 8) -> np.ndarray:
    """The Gaussian mean over ±4σ written out, the ends continued by their own value."""
    reach = int(4 * sigma + 0.5)
    offsets = range(-reach, reach + 1)
    weights = [math.exp(-0.5 * (d / sigma) ** 2) for d in offsets]
    smoothed = np.zeros_like(x, float)
    for t in range(len(x)):
        for d, weight in zip(offsets, weights, strict=True):
            smoothed[t] += weight / sum(weights) * x[min(max(t + d, 0), len(x) - 1)]
    return smoothed


@pytest.fixture
def random():
    return np.random.default_rng(11)


def test_smooth(random):
    for shape in ((T,), (T, 3), (12, 2, 2)):
        x = random.normal(size=shape)
        np.testing.assert_allclose(smooth(x), slow_smooth(x), rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(smooth(np.full(30, 7.0)), 7.0)
    period_two = (-1.0) ** np.arange(100)
    assert np.abs(smooth(period_two)[32:68]).max() < 1e-4  # 4σ truncation leaves e⁻⁸ of the kernel's edge


def test_smooth_of_a_late_start(random):
    x = random.normal(size=(40, 2))
    late = x.copy()
    late[:5, 1] = np.nan
    np.testing.assert_array_equal(np.isnan(smooth(late)).all(axis=1), np.arange(40) < 5)
    np.testing.assert_array_equal(smooth(late)[5:], smooth(x[5:]))
    assert np.isnan(smooth(np.full(4, np.nan))).all() and smooth(np.zeros((0, 3))).shape == (0, 3)


def test_edge_window():
    top = np.linspace(0, 4, 81)  # reaches 1.96 at step 39.2
    assert edge_window(top, 2.0) == slice(40, 57)
    assert edge_window(top, 2.0, fraction=0.5, tail=10) == slice(20, 71)
    assert edge_window(top, np.full(81, 2.0)) == slice(40, 57)
    assert edge_window(top, 5.0) is None  # never
    assert edge_window(top, 3.5) is None  # only in the last 24 steps
    gaps = np.where(np.arange(81) % 7 == 0, top, np.nan)
    assert edge_window(gaps, 2.0) == slice(42, 57)
    assert edge_window(np.full(81, np.nan), 2.0) is None
    assert edge_window(np.zeros(5), 2.0) is None and edge_window(np.full(5, 2.0), 2.0) is None
    assert edge_window(np.array([0.0, 1.96, 2.0]), 2.0, tail=1) == slice(1, 2)


def test_predicted_loss_error(random):
    loss, predicted = random.uniform(1, 2, T), random.uniform(1, 2, T)
    s, p = slow_smooth(loss), slow_smooth(predicted)
    numerator = sum(abs(s[t] - p[t]) for t in range(E.start, E.stop))
    denominator = sum(s[t] for t in range(E.start, E.stop))
    found = predicted_loss_error(loss, predicted, E)
    assert found.relative == pytest.approx(numerator / denominator)
    assert found.absolute == pytest.approx(numerator / (E.stop - E.start))
    assert found.scale == pytest.approx(denominator / (E.stop - E.start))
    by_hand = predicted_loss_error(np.full(T, 4.0), np.full(T, 3.0), E)
    assert by_hand == pytest.approx((0.25, 1, 4))
    assert math.isnan(predicted_loss_error(np.zeros(T), np.ones(T), E).relative)


@pytest.mark.parametrize("shape", [(T,), (T, N)])
def test_state_error(random, shape):
    ours, theirs = random.uniform(1, 2, shape), random.uniform(1, 2, shape)
    s = slow_smooth(ours)
    gaps = [np.linalg.norm(np.atleast_1d(s[t] - theirs[t])) for t in range(E.start, E.stop)]
    sizes = [np.linalg.norm(np.atleast_1d(s[t])) for t in range(E.start, E.stop)]
    ratios = [gap / size for gap, size in zip(gaps, sizes, strict=True)]
    assert state_error(ours, theirs, E) == pytest.approx((np.mean(ratios), np.mean(gaps), np.mean(sizes)))


def test_state_error_smooths_only_the_optimizer():
    wave = 1 + 0.5 * (-1.0) ** np.arange(T)
    assert state_error(wave, np.ones(T), E).relative < 1e-3  # E starts at step 20, where the end still shows
    assert state_error(np.ones(T), wave, E).relative == pytest.approx(0.5)


@pytest.mark.parametrize("block", [2, 4096])
def test_deviation_explained(random, monkeypatch, block):
    monkeypatch.setattr(metrics, "_BLOCK", block)
    discrete, central, stable = (np.cumsum(random.normal(size=(T, N)), axis=0) for _ in range(3))
    s = slow_smooth(discrete)
    values = []
    for t in range(E.start, E.stop):
        values.append(1 - np.sum((s[t] - central[t]) ** 2) / np.sum((s[t] - stable[t]) ** 2))
    found = deviation_explained(discrete, central, stable, E)
    last = E.stop - 1
    assert found.final == pytest.approx(values[-1])
    assert found.minimum == pytest.approx(min(values[len(values) // 2 :]))
    assert found.distance_central == pytest.approx(np.linalg.norm(s[last] - central[last]))
    assert found.distance_stable == pytest.approx(np.linalg.norm(s[last] - stable[last]))
    assert found.path_length == pytest.approx(sum(np.linalg.norm(s[t + 1] - s[t]) for t in range(last)))


def test_deviation_by_hand():
    at = np.zeros((T, 2))
    found = deviation_explained(at, at + np.array([0.3, 0.4]), at + np.array([0.0, 2.0]), E)  # distances ½ and 2
    assert found == pytest.approx((1 - 1 / 16, 1 - 1 / 16, 0.5, 2, 0))
    same = deviation_explained(at, at + 1, at, E)
    assert math.isnan(same.final) and same.distance_stable == 0
    straight = np.stack([np.arange(100.0), np.zeros(100)], axis=1)
    assert path_length(straight[:, :1]) == pytest.approx(path_length(straight))
    assert 90 < path_length(straight) < 99  # smoothing pulls both ends in


def test_variance_ratio(random):
    variances, squares = random.uniform(1, 2, (T, 3)), random.uniform(1, 2, (T, 4))
    variances[30:50, 2] = np.nan
    predicted = measured = 0.0
    cleaned = np.where(np.isnan(variances), 0, squares[:, :3])
    s = slow_smooth(cleaned)
    for t in range(E.start, E.stop):
        predicted += np.nansum(variances[t]) / (E.stop - E.start)
        measured += np.sum(s[t]) / (E.stop - E.start)
    assert variance_ratio(variances, squares, E) == pytest.approx((predicted / measured, predicted, measured))
    none = np.zeros((T, 0))
    assert math.isnan(variance_ratio(none, none, E).ratio) and variance_ratio(none, none, E).measured == 0


def test_onset_delay():
    variances = np.array([[np.nan], [0], [2], [2], [2], [2]])
    squares = np.array([[9], [9], [0], [0.9], [1], [5.0]])
    assert onset_delay(variances, squares) == 2
    assert onset_delay(variances, squares / 10) is None
    assert onset_delay(np.zeros((6, 1)), squares) is None
    assert onset_delay(variances, np.full((6, 1), 2.0)) == 0


# ---- the summary


def recorded(**changes) -> Run:
    """A run in which every headline figure has a value known in advance."""
    settings = {"top": 2.0, "skip": (), "steps": T, "stable_loss": 3.0, "without": ()} | changes
    records = MemoryRecords({"status": "running"})
    for t in range(settings["steps"]):
        top = settings["top"] if t >= FIRST else 1.0
        sign = (-1.0) ** t
        rows = {
            "discrete": {"loss": 4.0 + 0.1 * sign, "gradient_norm2": 10.0, "weights_series": np.array([sign, 0.0])},
            "midpoint": {"eigenvalues": np.array([top, 0.5]), "threshold": 2.0},
            "central": {
                "loss": 1.0,
                "predicted_loss": 3.8,
                "predicted_gradient_norm2": 9.0,
                "weights_series": np.array([0.0, 0.5]),
                "variances": np.array([1.1]) if t >= FIRST else np.zeros(0),
                "displacement_squares": np.array([1.0]) if t >= FIRST else np.zeros(0),
                "critical": int(t >= FIRST),
                "cost/total": 20.0 + t % 2,
            },
            "stable": {
                "loss": settings["stable_loss"],
                "gradient_norm2": 5.0,
                "weights_series": np.array([0.0, 2.0]),
            },
        }
        states = {"discrete": 1.0, "central": 1.1, "stable": 0.5}
        for process, nu in states.items():
            rows[process] |= {"states_series/nu": np.full(3, nu), "states_series/t": t}
        for process in rows.keys() - set(settings["skip"]):
            records.append(process, [{k: v for k, v in rows[process].items() if k not in settings["without"]}])
    records.finish()
    return records.read()


def test_summary():
    summary = recorded().summary()
    assert summary.steps == T and summary.complete and summary.edge == (FIRST, T - 24) and not summary.reasons
    expected = {
        "edge_ratio_mean": 1.0,
        "edge_ratio_max": 1.0,
        "edge_ratio_critical": 1.0,
        "loss_mean": 4.0,
        "predicted_loss_error": 0.05,
        "predicted_loss_error_absolute": 0.2,
        "stable_loss_error": 0.25,
        "stable_loss_error_absolute": 1.0,
        "gradient_norm2_mean": 10.0,
        "gradient_norm2_error": 0.1,
        "gradient_norm2_error_absolute": 1.0,
        "stable_gradient_norm2_error": 0.5,
        "deviation_explained": 1 - 1 / 16,
        "deviation_explained_minimum": 1 - 1 / 16,
        "distance_central": 0.5,
        "distance_stable": 2.0,
        "variance_predicted": 1.1,
        "cost_per_step": 20.5,
    }
    # the period-2 part is smoothed to 1e-4 inside, and to 1e-2 within 4σ = 32 steps of the start
    for name, value in expected.items():
        assert getattr(summary, name) == pytest.approx(value, rel=2e-3), name
    assert summary.state_errors == pytest.approx({"nu": 0.1}) and summary.stable_state_errors == pytest.approx({
        "nu": 0.5
    })
    assert summary.state_errors_absolute == pytest.approx({"nu": 0.1 * math.sqrt(3)})
    assert summary.onset_delay == 0 and summary.critical_max == 1
    measured = slow_smooth((np.arange(T) >= FIRST).astype(float))[E].mean()  # a step, smoothed
    assert summary.variance_ratio == pytest.approx(1.1 / measured)


def test_the_largest_of_several_eigenvalues_is_not_their_mean():
    records = MemoryRecords({"status": "running"})
    random = np.random.default_rng(0)
    for _ in range(T):
        values = np.sort(2 + 0.2 * random.standard_normal(3))[::-1]
        records.append("midpoint", [{"eigenvalues": np.append(values, 0.5), "threshold": 2.0}])
        records.append("central", [{"critical": 3.0}])
    records.finish()
    summary = records.read().summary()
    assert summary.edge_ratio_mean > 1.05 and abs(summary.edge_ratio_critical - 1) < 0.02


def test_summary_as_rows_and_json():
    summary = recorded().summary()
    rows = {figure: rest for figure, *rest in summary.as_rows()}
    assert rows["predicted ‖∇L‖², relative error"] == ["0.1", "0.5", ""]
    assert rows["edge E: first step, stop"] == ["20, 66", "", ""]
    assert rows["state, relative error, nu"] == ["0.1", "0.5", ""]
    assert json.loads(json.dumps(summary.as_dict(), allow_nan=False))["edge"] == [20, 66]
    shown = {name for _, *names in summary_module._TABLE for name in names}
    figures = set(Summary.__dataclass_fields__) - {"steps", "complete", "reasons"}
    assert shown - {None} == figures, "every figure is in the table"
    assert {name for names, _ in summary_module._FIGURES for name in names} == figures, "every figure is computed"


def test_never_at_the_edge():
    summary = recorded(top=1.5).summary()
    assert summary.edge is None and summary.predicted_loss_error is None and summary.deviation_explained is None
    assert summary.reasons["edge"] == "the midpoints never reached 0.98 λ* (0.75 λ* at most)"
    assert summary.reasons["predicted_loss_error"] == summary.reasons["edge"]
    assert summary.cost_per_step == pytest.approx(20.5)
    assert {row[0]: row[3] for row in summary.as_rows()}["edge E: first step, stop"] == summary.reasons["edge"]


def test_edge_at_the_very_end_or_unknown():
    assert "last 24 steps" in recorded(steps=FIRST + 10).summary().reasons["edge"]
    assert recorded(top=np.nan, steps=3).summary().edge is None
    assert "recorded no eigenvalues" in recorded(without=("eigenvalues",)).summary().reasons["edge"]
    assert "no midpoint process" in recorded(skip=("midpoint",)).summary().reasons["edge"]
    assert Run({}).summary().reasons["cost_per_step"] == "the run has no central process"


def test_missing_processes_leave_the_rest():
    summary = recorded(skip=("stable",)).summary()
    assert summary.predicted_loss_error == pytest.approx(0.05, rel=2e-3)
    assert summary.stable_loss_error is None and summary.deviation_explained is None
    assert summary.reasons["deviation_explained"] == "the run has no stable process"
    rows = {row[0]: row for row in summary.as_rows()}
    assert rows["state, relative error, nu"][1:3] == ("0.1", "")
    without = recorded(without=("weights_series",)).summary()
    assert without.reasons["distance_central"] == "the discrete process recorded no weights_series"
    assert without.state_errors is not None


def test_diverged_process_has_no_nan_figures():
    summary = recorded(stable_loss=np.inf).summary()
    assert summary.stable_loss_error is None and "not finite" in summary.reasons["stable_loss_error"]
    json.dumps(summary.as_dict(), allow_nan=False)


def test_half_written_run_and_a_lagging_midpoint():
    run = recorded()
    midpoint = run["midpoint"]
    midpoint.series = {name: values[:-1] for name, values in midpoint.series.items()}
    assert run.summary().edge == (FIRST, T - 25)


def test_restarted_flow_takes_the_place_of_central():
    run = recorded()
    late = {name: values.astype(float) for name, values in run["central"].series.items()}
    for values in late.values():
        values[:FIRST] = np.nan
    run.processes["restarted"] = type(run["central"])("restarted", late)
    summary = summarise(run, central="restarted")
    assert summary.predicted_loss_error == pytest.approx(0.05, rel=2e-3)
    assert summary.deviation_explained == pytest.approx(1 - 1 / 16, rel=2e-3)
    assert summarise(run, central="rod").reasons["cost_per_step"] == "the run has no rod process"
