import numpy as np
import pytest

from derivations.cli import main
from numerics.run_directory import RunDirectory


@pytest.fixture
def cli(capsys):
    """Run a command; gives exit code, standard output and standard error."""

    def run(*arguments):
        try:
            code = main([str(a) for a in arguments])
        except SystemExit as stop:
            code = stop.code
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture
def recorded(tmp_path):
    """Make a run directory of invented but plausible numbers; `rows` fewer than `steps` leaves it half-written."""

    def make(name, *, rows=80, steps=80):
        config = {"rule": "rmsprop", "hyper": {"lr": 0.004, "beta2": 0.99, "eps": 1e-6}, "steps": steps, "seed": 0}
        condition = {"name": "a condition <&>", "held": True, "value": "0.1", "meaning": "measured"}
        directory = RunDirectory.create(tmp_path / name, {"config": config, "assumptions": [condition]})
        for t in range(rows):
            for process, row in _rows(t).items():
                directory.append(process, row)
        directory.commit(rows)
        if rows == steps:
            directory.finish({"central": {"weights": np.ones(5)}})
        return tmp_path / name

    return make


def _rows(t):
    swing = 0.1 * (-1) ** t
    loss, w, nu = np.exp(-t / 50), np.ones(5) * np.exp(-t / 100), np.arange(5.0)
    tops = np.array([min(2.0, 1 + t / 20), min(1.8, t / 40)])
    common = {"threshold": 2.0, "gradient_norm2": loss**2, "states_series/nu": nu, "states_series/t": t}
    squares = np.array([swing**2, swing**2 / 3])[: 2 if t > 30 else 1]
    cost = {"cost/grad": 1.0, "cost/eig": 5.0, "cost/third": 4.0, "cost/sdcp": 0.1, "cost/total": 10.1}
    central = {"predicted_loss": loss + swing**2, "predicted_gradient_norm2": loss**2, "critical": len(squares)}
    return {
        "discrete": common | {"loss": loss + swing**2, "weights_series": w + swing * np.eye(5)[0]},
        "midpoint": {"threshold": 2.0, "loss": loss, "weights_series": w, "eigenvalues": tops},
        "central": common
        | central
        | cost
        | {
            "loss": loss,
            "weights_series": 1.01 * w,
            "eigenvalues": tops,
            "variances": squares,
            "displacement_squares": squares,
        },
        "stable": common | {"loss": 0.9 * loss, "weights_series": 1.1 * w, "eigenvalues": tops + t / 100},
    }
