"""`centralflow run` on any network and data: flags from signatures, a user's own module, refusals in one sentence."""

import ast
import inspect
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import numerics.data
import numerics.models
from derivations.cli import factories, problems, run_command, sweep
from derivations.cli.main import _parser
from derivations.cli.refusal import CommandRefused
from numerics.errors import InputRefused
from tests.benchmarks import architectures

NET = '''
"""A network of mine."""
import torch
from helper_of_mine import ACTIVATION


class Net(torch.nn.Module):
    """Mine."""

    def __init__(self, width: int = 4, scale: float = 1.0, deep: bool = False):
        """Build it.

        Args:
            width: of the hidden layer,
                in units.
            scale: of the outputs.
            deep: whether there is more.
        """
        super().__init__()
        self.scale = scale
        self.layers = torch.nn.Sequential(torch.nn.Linear(64, width), ACTIVATION, torch.nn.Linear(width, 10))

    def forward(self, x):
        return self.scale * self.layers(x)


def fitted(data, lr=3, dtype=None):
    torch.manual_seed(7)
    return torch.nn.Linear(data[0].shape[1], data[1].shape[1], dtype=dtype)


def bad():
    return torch.nn.Sequential(torch.nn.Linear(64, 8), torch.nn.LayerNorm(8), torch.nn.GELU(), torch.nn.Linear(8, 10))


def kinked():
    return torch.nn.Sequential(torch.nn.Linear(64, 8), torch.nn.ReLU(), torch.nn.Linear(8, 10))


def three():
    return 3


def rows(n: int = 5):
    return torch.arange(float(n * 64)).reshape(n, 64).double() / 100, torch.eye(10).double()[:n]


def unpaired():
    return torch.ones(3)
'''


@pytest.fixture
def mine(tmp_path):
    (tmp_path / "helper_of_mine.py").write_text("import torch\nACTIVATION = torch.nn.Tanh()\n")
    file = tmp_path / "net.py"
    file.write_text(NET)
    return file


def refused(result, *words):
    code, out, err = result
    assert code == 2 and not out and err.count("\n") == 1, (out, err)
    for word in words:
        assert word in err


# --- flags


@pytest.mark.parametrize("kind", ["models", "data"])
def test_every_built_in_has_flags_equal_to_its_signature(kind):
    module = {"models": numerics.models, "data": numerics.data}[kind]
    public = {name.lower(): getattr(module, name) for name in module.__all__}
    assert len(factories.names(kind)) == {"models": 7, "data": 10}[kind]
    for name in factories.names(kind):
        found = factories.factory(kind, name)
        signature = inspect.signature(getattr(public[name], "for_data", public[name])).parameters
        assert {*found.parameters, *found.given} == set(signature)
        for key, parameter in found.parameters.items():
            expected = signature[key].default
            assert parameter.default == (factories.REQUIRED if expected is inspect.Parameter.empty else expected)
            assert parameter.help, f"{name} does not explain {key}"
            if expected not in {inspect.Parameter.empty, None}:
                assert parameter.read(factories.shown(expected)) == expected


def test_help_shows_the_flags_of_network_and_data(cli, mine):
    out = cli("run", "--model", "vit", "--data", "cifar10", "--help")[1]
    for word in ("--patch", "--heads", "--path", "--classes", "--loss", "cross-entropy"):
        assert word in out
    assert "--hidden" not in out
    out = " ".join(cli("run", "--model", f"{mine}:Net", "--help")[1].split())
    for word in (
        "--width",
        "of the hidden layer, in units; default 4",
        "--scale",
        "default 1.0",
        "--deep",
        "default off",
    ):
        assert word in out


def test_help_of_a_users_network_does_not_run_it(tmp_path):
    file = tmp_path / "net.py"
    file.write_text("raise SystemExit('imported')\ndef make(width: int = 3): ...\n")
    script = f"""
import sys
from derivations.cli import main
try:
    main(["run", "--model", "{file}:make", "--data", "sorting", "--help"])
finally:
    assert "torch" not in sys.modules and "numerics" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "--width" in done.stdout and "--vocabulary" in done.stdout


def test_a_flag_that_is_taken_gets_the_name_of_its_part_before_it(cli, mine):
    out = cli("run", "--model", f"{mine}:fitted", "--help")[1]
    assert "--model-lr" in out and "--lr LR" in out


def test_source_of_a_module_is_found_without_importing_it(tmp_path, monkeypatch):
    package = tmp_path / "pack_of_mine" / "inner"
    package.mkdir(parents=True)
    (package / "nets.py").write_text("def make(depth: int = 2): ...\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert list(factories.factory("models", "pack_of_mine.inner.nets:make").parameters) == ["depth"]
    assert factories.factory("models", "no_such_module_of_mine:make").parameters == {}


@pytest.mark.parametrize(("text", "value"), [("8,16", (8, 16)), ("[8, 16]", (8, 16)), ("(3,)", (3,)), ("5", (5,))])
def test_lists_of_numbers(text, value):
    assert factories.integers(text) == value


@pytest.mark.parametrize(
    ("annotation", "default", "text", "value"),
    [
        ("int", 1, "3", 3),
        ("float", 1.0, "3", 3.0),
        ("bool", True, "off", False),
        ("tuple[int, ...]", (1,), "2,3", (2, 3)),
        ("int | None", None, "4", 4),
        ("", 2.5, "3", 3.0),
        ("", "a", "3", "3"),
        ("Literal[1, 2]", 1, "2", 2),
        ("", factories.REQUIRED, "1.5", 1.5),
        ("Anything", factories.REQUIRED, "word", "word"),
    ],
)
def test_how_a_text_becomes_an_argument(annotation, default, text, value):
    read = factories._reader(annotation, default)(text)
    assert read == value and type(read) is type(value)


@pytest.mark.parametrize(
    ("annotation", "choices"),
    [
        ("Literal['a', 'b']", ("a", "b")),
        ("Literal['a'] | None", ()),
        ("Literal[1, 2]", ()),
        ("Literal[A]", ()),
        ("int", ()),
    ],
)
def test_choices(annotation, choices):
    assert factories._choices(annotation) == choices


def test_arguments_of_all_kinds_are_seen():
    node = ast.parse("def f(data, a, /, b: int, c=1, *, d, e=Unknown): ...").body[0]
    found = factories._described("f", node)
    assert list(found.parameters) == ["a", "b", "c", "d", "e"] and found.given == {"data"}
    assert [p.default is factories.REQUIRED for p in found.parameters.values()] == [True, True, False, True, False]


# --- building


def test_the_default_is_the_network_of_the_figures():
    problem = problems.build()
    expected = numerics.Problem.from_module(numerics.models.MLP((64, 24, 24, 10)), numerics.data.digits(300), "mse")
    assert torch.equal(problem.w0, expected.w0)
    for a, b in zip(problem.gradient(problem.w0), expected.gradient(problem.w0), strict=True):
        assert torch.equal(a, b)


FITS = {
    "digits": ("mlp", "cnn", "resnet", "vit", "lstm", "transformer", "mamba"),
    "sorting": ("lstm", "mamba"),
    "moons": ("mlp",),
}


@pytest.mark.parametrize(("data", "model"), [(d, m) for d, models in FITS.items() for m in models])
@pytest.mark.parametrize("loss", ["mse", "cross-entropy"])
def test_networks_on_data(data, model, loss):
    problem = problems.build(model, 1, data, loss, data_options={"n": 10})
    assert problem.dtype == torch.float64 and torch.isfinite(problem.value(problem.w0))
    json.dumps(problem.settings)


@pytest.mark.parametrize("loss", ["binary-mse", "binary-cross-entropy"])
def test_binary_losses_have_one_output(loss):
    problem = problems.build("mlp", data="moons", loss=loss, data_options={"n": 10}, data_seed=3)
    f = problem.outputs(problem.w0)
    assert f.shape == (10, 1)
    _, y = numerics.data.moons(10, seed=3)
    sign = (2 * y.argmax(1) - 1).double()[:, None]
    expected = {
        "binary-mse": (f - sign).square().sum() / 20,
        "binary-cross-entropy": torch.log1p((-sign * f).exp()).mean(),
    }
    torch.testing.assert_close(problem.value(problem.w0), expected[loss].detach())


def test_a_users_network(mine):
    def made(seed, **options):
        return problems.build(f"{mine}:Net", seed, model_options={"width": 3} | options, data_options={"n": 10})

    problem = made(5, scale=2.0)
    assert problem.n == 64 * 3 + 3 + 3 * 10 + 10 and problem.dtype == torch.float64
    assert torch.equal(made(5).w0, problem.w0) and not torch.equal(made(6).w0, problem.w0)
    torch.testing.assert_close(problem.outputs(problem.w0), 2 * made(5).outputs(problem.w0))
    assert problems.build(f"{mine}:fitted", data_options={"n": 10}).n == 650
    assert str(mine.parent) not in sys.path


def test_a_users_module_by_import_path(mine, monkeypatch):
    monkeypatch.chdir(mine.parent)
    assert problems.build("net:Net", data_options={"n": 10}).n == 64 * 4 + 4 + 40 + 10


def test_safe_makes_a_users_layers_right(mine):
    options = dict(data_options={"n": 10})
    bad, good = (problems.build(f"{mine}:bad", safe=safe, **options) for safe in (False, True))
    report = bad.check()
    assert not report.ok and "1 (LayerNorm)" in report.message and "numerics.models.safe" in report.message
    assert good.check().ok and torch.equal(bad.w0, good.w0)
    torch.testing.assert_close(bad.value(bad.w0), good.value(good.w0), rtol=1e-12, atol=0)


def test_a_users_data(mine, tmp_path):
    problem = problems.build("mlp", data=f"{mine}:rows", data_options={"n": 4}, model_options={"hidden": (2,)})
    assert problem.outputs(problem.w0).shape == (4, 10)
    file = tmp_path / "a.npz"
    np.savez(file, X=np.ones((5, 3)), targets=np.arange(5))
    problem = problems.build("mlp", data=str(file), data_options={"n": 4, "inputs": "X"})
    assert problem.outputs(problem.w0).shape == (4, 5)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("vit", 0, "sorting"), "they fit lstm, mamba, transformer"),
        (("lstm", 0, "moons"), "they fit mlp"),
        (("mlp", 0, "digits", "hinge"), "--loss must be one of"),
        (("mlp", 0, "digits", "binary-mse"), "two classes"),
        (("perceptron",), "--model must be one of cnn, lstm"),
        (("mlp", 0, "imagenet"), "--data must be one of arrays, characters"),
        (("mlp", 0, "none.npz"), "none.npz does not exist"),
        (("no_such_module_of_mine:make",), "cannot be imported: ModuleNotFoundError"),
        (("NET:None",), "which has"),
        (("mlp", 0, "digits", "mse", 3), "--data-seed is for data that are drawn, and digits are not"),
        (("none.py:make",), "cannot be imported: FileNotFoundError"),
        (("NET:three",), "must be a torch.nn.Module, got int"),
        (("NET:Net", 0, "moons"), "the module must accept the inputs of shape (200, 2)"),
        (("mlp", 0, "NET:unpaired"), "must return a pair"),
    ],
)
def test_refusals(mine, arguments, words):
    arguments = [a.replace("NET", str(mine)) if isinstance(a, str) else a for a in arguments]
    with pytest.raises((CommandRefused, InputRefused)) as refusal:
        problems.build(*arguments[:4], data_seed=(arguments[4:] or [None])[0])
    assert words in str(refusal.value) and "\n" not in str(refusal.value)


def test_real_targets_have_no_cross_entropy(tmp_path):
    file = tmp_path / "a.npz"
    np.savez(file, inputs=np.ones((5, 3)), targets=np.linspace(0, 1, 5))
    with pytest.raises(InputRefused, match="use mse"):
        problems.build("mlp", data=str(file), loss="cross-entropy")


# --- whole commands


QUICK = ("--rule", "gd", "--lr", "0.1", "--steps", "2", "--warm-start", "0", "--processes", "discrete")


def test_run_with_flags_and_with_the_same_keys_in_toml(cli, tmp_path):
    flags = ("--model", "resnet", "--data", "digits", "--widths", "2,4", "--n", "12", "--loss", "cross-entropy")
    code, _, err = cli("run", *QUICK, *flags, "--out", tmp_path / "a")
    assert code == 0, err
    config = tmp_path / "run.toml"
    config.write_text(
        'rule = "gd"\nlr = 0.1\nsteps = 2\nwarm_start = 0\nprocesses = ["discrete"]\n'
        'model = "resnet"\ndata = "digits"\nwidths = [2, 4]\nn = 99\nloss = "cross-entropy"\n'
    )
    code, _, err = cli("run", "--config", config, "--n", "12", "--out", tmp_path / "b")
    assert code == 0, err
    a, b = (json.loads((tmp_path / name / "manifest.json").read_text())["config"] for name in "ab")
    assert a == b and a["problem"]["model_options"] == {"widths": [2, 4]} and a["problem"]["data_options"]["n"] == 12


def test_a_run_cannot_be_resumed_with_another_network_of_the_same_size(tmp_path):
    def run(activation, resume, progress=None):
        problem = problems.build(model_options={"hidden": (3,), "activation": activation}, data_options={"n": 12})
        return numerics.simulate(
            problem, "gd", {"lr": 0.1}, 3, processes=("discrete",), out=tmp_path / "a", resume=resume, progress=progress, check=False
        )  # fmt: skip

    def interrupt(done, steps):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run("gelu", False, interrupt)
    with pytest.raises(InputRefused, match="other settings"):
        run("tanh", True)
    assert run("gelu", True)["discrete"].steps == 3


def test_run_of_a_users_module_names_the_unsafe_layer(cli, mine, tmp_path):
    flags = (*QUICK, "--n", "12", "--out", tmp_path / "a")
    refused(cli("run", "--model", f"{mine}:kinked", *flags), "1 (ReLU)", "GELU")
    code, _, err = cli("run", "--model", f"{mine}:bad", "--safe", *flags)
    assert code == 0, err


def test_refusals_of_the_command(cli, tmp_path):
    refused(cli("run", *QUICK, "--model", "perceptron"), "--model must be one of")
    refused(cli("run", *QUICK, "--model", "none.py:make"), "names the file none.py, which does not exist")
    refused(cli("run", *QUICK, "--data", "characters"), "--path", "text file")
    refused(cli("run", *QUICK, "--data", "cifar10", "--path", tmp_path / "none"), "does not exist; unpack")
    refused(cli("run", *QUICK, "--model", "vit", "--data", "sorting"), "they fit lstm, mamba, transformer")
    config = tmp_path / "run.toml"
    for text, word in (
        ('model = "vit"\nhidden = [3]', "hidden"),
        ('model = "vit"\npatch = "two"', "patch"),
        ('loss = "hinge"', "loss"),
        ('form = "words"', "form"),
    ):
        config.write_text(f'rule = "gd"\nlr = 0.1\n{text}\n')
        refused(cli("run", "--config", config), word)


def test_a_run_that_starts_at_the_edge(cli, tmp_path):
    flags = ("--rule", "rmsprop", "--model", "mlp", "--hidden", "4", "--n", "20", "--at-edge", "--steps", "3")
    code, _, err = cli("run", *flags, "--out", tmp_path / "a")
    assert code == 0, err
    run = numerics.records.Run.load(tmp_path / "a")
    config = run.manifest["config"]
    assert config["warm_start"] == 0 and 0 < config["kick"] < 0.1 and config["hyper"]["lr"] > 0
    assert 0.9 < run["stable"].eigenvalues[0, 0] / run["stable"].threshold[0] < 1
    code, _, err = cli("run", *flags, "--out", tmp_path / "b", "--processes", "discrete")
    assert json.loads((tmp_path / "b" / "manifest.json").read_text())["config"]["start"] == config["start"]


def test_what_is_chosen_at_the_edge_cannot_be_given(cli):
    refused(cli("run", "--rule", "gd", "--at-edge", "--lr", "0.1"), "leave out --lr")
    refused(cli("run", "--rule", "gd", "--at-edge", "--kick", "0.1", "--warm-start", "3"), "--warm-start and --kick")


def test_the_sweep_of_architectures_is_the_table_of_the_benchmark(tmp_path):
    config = run_command.read_config(Path(architectures.__file__).with_suffix(".toml"))
    made = sweep.cells({}, config, tmp_path)
    found = {}
    for cell in made:
        settings = dict(text.removeprefix("--").split("=") for text in cell.arguments if "=" in text)
        assert "--at-edge" in cell.arguments and settings["steps"] == str(architectures.STEPS)
        own = {key: float(settings[key]) for key in ("beta2", "eps") if key in settings}
        found[settings["rule"], settings["model"]] = own, (settings["data"], {"n": int(settings["n"])})
        parser, _ = _parser(["run", *cell.arguments])
        parser.parse_args(["run", *cell.arguments])
    rules, models = architectures.RULES, architectures.MODELS
    assert len(made) == 18 and found == {(r, m): (rules[r], models[m]) for r in rules for m in models}
