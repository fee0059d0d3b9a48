"""The standalone file of a rule: it needs torch alone, and makes the steps that `simulate` makes."""

import subprocess
import sys

import numpy as np
import pytest
import torch

import numerics.eigen
from numerics import simulate
from numerics.derivatives import LocalDerivatives
from tests.numerics.problems import small_problem
from theory import derivable_rules, derive
from theory.standalone import torch_source

# One number per step and process, from a module that may not import this project.
SCRIPT = """
import importlib.util, json, sys
import numpy as np, torch
torch.set_num_threads(1)
spec = importlib.util.spec_from_file_location("standalone", sys.argv[1])
alone = importlib.util.module_from_spec(spec)
spec.loader.exec_module(alone)
data = np.load(sys.argv[2])
x, y, w = (torch.from_numpy(data[k]) for k in ("x", "y", "w0"))
hyper, steps, warm, sizes = json.loads(sys.argv[4])

def loss(w):
    W, b, v = w.split(sizes)
    return 0.5 * ((torch.tanh(x @ W.reshape(-1, 4).T + b) @ v[:, None] - y) ** 2).sum(1).mean()

rule = alone.Rule(hyper, tuple(sizes), w)
states = rule.initial()
for _ in range(warm):
    w, states = alone.discrete_step(loss, rule, w, states)
found = {}
for name in ("stable", "central"):
    flow = alone.Flow(loss, rule, w, states, oscillates=name == "central")
    weights, rows = [], []
    for _ in range(steps):
        weights.append(flow.w.numpy())
        rows.append(flow.step())
    found[name] = np.array(weights)
    found[name + "_loss"] = np.array([r["predicted_loss"] for r in rows])
    found[name + "_modes"] = np.array([int((torch.linalg.eigvalsh(r["X"]) > 1e-9).sum()) for r in rows])
    for key, value in zip(alone.ACCUMULATORS, flow.a):
        found[f"{name}_{key}"] = value.numpy()
for _ in range(steps):
    w, states = alone.discrete_step(loss, rule, w, states)
found["discrete"] = w.numpy()
assert not {"theory", "numerics", "derivations", "sympy"} & set(sys.modules)
np.savez(sys.argv[3], **found)
"""
WIDTH = 12
NARROW = {"full_matrix_rmsprop": 4}  # where the root of V is regular: it would carry the root of round-off
CASES = [
    pytest.param("gd", dict(lr=0.6), 60, 20, 1, id="gd"),
    pytest.param("scalar_rmsprop", dict(lr=0.3, beta2=0.95, eps=1e-6), 30, 3, 1, id="scalar_rmsprop"),
    pytest.param("rmsprop", dict(lr=0.02, beta2=0.95, eps=1e-4), 50, 5, 2, id="rmsprop"),
    pytest.param(
        "full_matrix_rmsprop",
        dict(lr=0.1, beta2=0.99, eps=0.05),
        20,
        40,
        2,
        id="full_matrix_rmsprop",
        marks=pytest.mark.slow,
    ),
    pytest.param("heavy_ball", dict(lr=0.8, momentum=0.5), 40, 20, 1, id="heavy_ball", marks=pytest.mark.slow),
    pytest.param("adam", dict(lr=0.05, beta1=0.5, beta2=0.95, eps=1e-6), 40, 5, 1, id="adam", marks=pytest.mark.slow),
]


def data():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(24, 4, generator=generator, dtype=torch.float64)
    return x, torch.randn(24, 1, generator=generator, dtype=torch.float64)


def alone(folder, name, hyper, steps, warm):
    """What the standalone file computes on the small problem, in a process of its own without the project's folder."""
    import json

    problem = small_problem(width=NARROW.get(name, WIDTH))
    x, y = data()
    (folder / "rule.py").write_text(torch_source(derive(name)), encoding="utf-8")
    (folder / "script.py").write_text(SCRIPT, encoding="utf-8")
    np.savez(folder / "data.npz", x=x.numpy(), y=y.numpy(), w0=problem.w0.numpy())
    settings = json.dumps([hyper, steps, warm, list(problem.blocks)])
    arguments = ["-I", "script.py", "rule.py", "data.npz", "found.npz", settings]
    done = subprocess.run([sys.executable, *arguments], cwd=folder, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return dict(np.load(folder / "found.npz"))


@pytest.fixture
def exact(monkeypatch):
    """Let `simulate` use exact derivatives and eigenvectors, where it ordinarily uses differences and an iteration."""
    third = LocalDerivatives.third
    monkeypatch.setattr(numerics.eigen, "DENSE", 10**6)
    monkeypatch.setattr(LocalDerivatives, "quick_hessian_product", LocalDerivatives.hessian_product)
    monkeypatch.setattr(LocalDerivatives, "third", lambda self, U, **_: third(self, U, "exact"))


def distance(a, b):
    return float(np.abs(np.asarray(a) - np.asarray(b)).max() / np.abs(np.asarray(b)).max())


@pytest.mark.parametrize(("name", "hyper", "steps", "warm", "modes"), CASES)
def test_steps_are_those_of_simulate(name, hyper, steps, warm, modes, tmp_path, exact):
    found = alone(tmp_path, name, hyper, steps, warm)
    settings = dict(warm_start=warm, check=False, processes=("central", "stable"))
    run = simulate(small_problem(width=NARROW.get(name, WIDTH)), name, hyper, steps, **settings)
    assert not run.manifest["stopped"]
    for flow, tolerance in (("stable", 1e-12), ("central", 1e-9)):  # the covariance is solved to about 1e-11
        assert distance(found[flow], run[flow].weights_series) < tolerance
        for key, value in run[flow].states.items():
            assert distance(found[f"{flow}_{key}"], value) < tolerance
    assert distance(found["central_loss"], run["central"].predicted_loss) < 1e-9
    assert found["central_modes"].max() >= modes


def test_discrete_steps_are_those_of_simulate(tmp_path):
    hyper = dict(lr=0.02, beta2=0.95, eps=1e-4)
    found = alone(tmp_path, "rmsprop", hyper, 10, 2)
    run = simulate(small_problem(width=WIDTH), "rmsprop", hyper, 10, warm_start=2, check=False, processes=("discrete",))
    assert distance(found["discrete"], run["discrete"].weights) < 1e-12


@pytest.mark.parametrize("name", derivable_rules())
def test_standalone_source_compiles_and_imports_torch_alone(name):
    source = torch_source(derive(name))
    compile(source, name, "exec")
    assert f'NAME = "{name}"' in source or f"NAME = '{name}'" in source
    assert ">>> generated" not in source and "NotImplementedError" not in source
    assert "few hundred parameters" in source.split('"""')[1]


@pytest.mark.slow
@pytest.mark.parametrize("name", derivable_rules())
def test_the_demonstration_runs(name, tmp_path):
    (tmp_path / "rule.py").write_text(torch_source(derive(name)), encoding="utf-8")
    command = [sys.executable, "-I", "rule.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{name}, 36 parameters") and "nan" not in done.stdout


def test_a_missing_hyperparameter_is_named(tmp_path):
    (tmp_path / "rule.py").write_text(torch_source(derive("gd")), encoding="utf-8")
    code = "import rule, torch; rule.Rule({}, (2,), torch.zeros(2))"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert "gd needs lr; missing: lr" in done.stderr
