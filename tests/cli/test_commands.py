import subprocess
import sys
import time

import pytest

from derivations.cli.main import COMMANDS
from tests.numerics.problems import small_problem
from theory import available_rules, derivable_rules, derive

MINE = '''
from theory import hyper, per_parameter, sqrt, update_rule

@update_rule(lr=hyper("(0, oo)"), rho=hyper("[0, 1)", default=0.5), nu=per_parameter(nonnegative=True))
def mine(s):
    """A rule of my own."""
    s.nu = s.rho * s.nu + (1 - s.rho) * s.g**2
    s.w = s.w - s.lr * s.g / sqrt(s.nu)
'''


def refused(result, *words):
    code, out, err = result
    assert code == 2
    assert not out
    assert err.startswith("centralflow: ")
    assert err.count("\n") == 1
    for word in words:
        assert word in err


def test_list_names_every_rule(cli):
    code, out, err = cli("list")
    assert code == 0 and not err
    for name in available_rules():
        assert name in out


@pytest.mark.parametrize("name", derivable_rules())
def test_derive_prints_the_steps(cli, name):
    code, out, _ = cli("derive", name)
    assert code == 0
    d = derive(name)
    for step in d.steps:
        assert step.title in out
    for assumption in d.assumptions:
        assert assumption in out


@pytest.mark.parametrize("name", derivable_rules())
def test_derived_text_holds_no_latex(cli, name):
    assert "\\" not in cli("derive", name)[1]


def test_derive_latex_and_code(cli, tmp_path):
    code, out, _ = cli("derive", "gd", "--latex")
    assert code == 0 and "\\documentclass" in out and "\\end{document}" in out
    code, out, _ = cli("derive", "gd", "--code")
    assert code == 0
    compile(out, "gd", "exec")
    file = tmp_path / "gd.py"
    code, nothing, _ = cli("derive", "gd", "--code", "-o", file)
    assert code == 0 and not nothing and file.read_text() == out


def test_options_and_schedules_reach_the_derivation(cli):
    assert "beta2**t_next" in cli("derive", "rmsprop", "--option", "bias_correction")[1]
    assert "beta2**t_next" not in cli("derive", "rmsprop", "--option", "bias_correction=off")[1]
    assert "sqrt(t_next)" in cli("derive", "gd", "--schedule", "lr=0.1/sqrt(t)")[1]


def test_a_rule_in_a_file(cli, tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(MINE)
    assert "A rule of my own." in cli("derive", file)[1]
    code, out, _ = cli("run", "--rule", file, "--help")
    assert code == 0 and "--rho" in out and "[0, 1)" in out and "--beta2" not in out


def test_refusals_of_derive(cli, tmp_path):
    refused(cli("derive", "rmspro"), "rmspro", "did you mean 'rmsprop'")
    refused(cli("derive", tmp_path / "none.py"), "none.py")
    (tmp_path / "broken.py").write_text("def broken(:\n")
    refused(cli("derive", tmp_path / "broken.py"), "syntax error", "line 1")
    (tmp_path / "empty.py").write_text("x = 1\n")
    refused(cli("derive", tmp_path / "empty.py"), "exactly one rule", "none")
    refused(cli("derive", "gd", "--option", "nesterov"), "nesterov")
    refused(cli("derive", "gd", "--option", "x=perhaps"), "--option")
    refused(cli("derive", "gd", "--schedule", "lr"), "--schedule")
    refused(cli("derive", "gd", "--schedule", "lr=u"), "only t")
    refused(cli("derive", "gd", "-o", tmp_path / "no" / "folder"), "-o")


def test_refusals_of_run_come_before_any_computing(cli, tmp_path):
    refused(cli("run", "--rule", "rmspro"), "rmspro")
    refused(cli("run", "--rule", "gd"), "--lr")
    refused(cli("run", "--rule", "gd", "--lr", "-1"), "(0, ∞)", "-1")
    refused(cli("run", "--rule", "gd", "--lr", "1", "--resume"), "--out")
    refused(cli("run", "--config", tmp_path / "none.toml"), "none.toml")
    config = tmp_path / "run.toml"
    for text, word in (
        ("rule = ", "TOML"),
        ('rule = "gd"\nbeta2 = 0.5', "beta2"),
        ('rule = "gd"\nlr = 1.0\nsteps = "many"', "steps"),
        ('rule = "gd"\nlr = true', "--lr"),
    ):
        config.write_text(text)
        refused(cli("run", "--config", config), word)


def test_flags_override_the_toml_file(cli, tmp_path, monkeypatch):
    import numerics
    from derivations.cli import run_command

    class Stop(Exception):
        pass

    seen = {}

    def simulate(problem, **settings):
        seen.update(settings)
        raise Stop

    monkeypatch.setattr(numerics, "simulate", simulate)
    monkeypatch.setattr(run_command, "build", lambda *parts, **options: small_problem())
    config = tmp_path / "run.toml"
    config.write_text(
        'rule = "rmsprop"\nlr = 0.1\neps = 0\nsteps = 7\nbias_correction = true\nprocesses = ["discrete"]\n'
    )
    with pytest.raises(Stop):
        cli("run", "--config", config, "--lr", "0.2", "--kick", "1e-3", "--out", tmp_path / "out")
    assert seen["hyper"] == {"lr": 0.2, "beta2": 0.99, "eps": 0, "bias_correction": True}
    assert (seen["steps"], seen["warm_start"], seen["kick"], seen["processes"]) == (7, 5, 1e-3, ("discrete",))
    with pytest.raises(Stop):
        cli("run", "--rule", "gd", "--lr", "0.1/sqrt(t)", "--stride", "8", "--out", tmp_path / "out")
    assert seen["hyper"] == {"lr": "0.1/sqrt(t)"} and seen["stride"] == 8


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(cli, command):
    code, out, _ = cli(command, "--help")
    assert code == 0
    assert f"example: centralflow {command}" in out


def run_without(modules, *arguments):
    script = f"""
import sys
from derivations.cli import main
try:
    main({list(arguments)!r})
finally:
    assert not {modules!r} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)


def test_help_needs_no_torch_and_is_fast():
    start = time.perf_counter()
    run_without({"torch", "sympy"}, "--help")
    # Measured 0.1 s; the promise is 1 s, and the rest is for a loaded machine.
    assert time.perf_counter() - start < 3


@pytest.mark.parametrize("command", ["run", "demo", "derive"])
def test_help_of_commands_needs_no_torch(command):
    run_without({"torch"}, command, "--help")


def test_without_a_command_help_is_shown(cli):
    code, out, _ = cli()
    assert code == 2 and "derive" in out


def test_a_closed_pipe_is_no_error():
    script = "from derivations.cli import main; import sys; sys.exit(main(['derive', 'rmsprop']))"
    command = f'{sys.executable} -c "{script}" | head -n 1'
    done = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, check=False)
    assert done.stderr == "" and done.returncode == 0 and done.stdout.startswith("rmsprop")
