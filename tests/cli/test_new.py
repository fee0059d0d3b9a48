import pytest

from derivations.cli import rule_template
from derivations.cli.main import COMMANDS
from derivations.cli.new_command import PLACEHOLDER, write_rule
from tests.cli.test_commands import refused
from tests.numerics.problems import small_problem
from theory import derive, load_rule
from theory.calculus import is_zero


def test_the_scaffold_derives_unchanged(cli, tmp_path):
    code, out, err = cli("new", "mine", "--dir", tmp_path)
    file = tmp_path / "mine.py"
    assert code == 0 and not out and f"centralflow derive {file}" in err
    assert PLACEHOLDER not in file.read_text() and file.read_text().startswith('"""')
    assert load_rule(file).name == "mine"
    code, out, _ = cli("derive", file)
    assert code == 0 and "RMSProp" in out
    assert "eps**2" in cli("derive", file, "--option", "eps_inside")[1]


def test_the_scaffold_runs_unchanged(tmp_path):
    from numerics import simulate

    run = simulate(small_problem(), str(write_rule("mine", tmp_path)), dict(lr=0.02), 5, warm_start=2, check=False)
    assert not run.manifest["stopped"]
    assert run.manifest["config"]["rule"] == "mine"


@pytest.mark.slow
def test_the_scaffold_runs_from_the_command_line(cli, tmp_path):
    file, out = write_rule("mine", tmp_path), tmp_path / "run"
    assert cli("run", "--rule", file, "--lr", "0.004", "--steps", "3", "--out", out)[0] == 0
    assert (out / "report.html").is_file()


def test_the_scaffold_fulfils_what_it_calls_published():
    found = rule_template.my_rule.published(derive(rule_template.my_rule))
    assert set(found) == {"threshold", "rate of nu"}
    assert all(is_zero(ours - theirs) for ours, theirs in found.values())


def test_nothing_is_overwritten(cli, tmp_path):
    write_rule("mine", tmp_path).write_text("precious")
    refused(cli("new", "mine", "--dir", tmp_path), "mine.py", "not overwritten")
    assert (tmp_path / "mine.py").read_text() == "precious"


@pytest.mark.parametrize("name", ["2fast", "a-b", "class", "mine.py", "a b", "", "_hidden", "../x"])
def test_names_that_python_does_not_accept_are_refused(cli, tmp_path, name):
    refused(cli("new", name, "--dir", tmp_path), "name that Python accepts")
    assert not list(tmp_path.iterdir())


def test_the_name_of_an_installed_rule_is_refused(cli, tmp_path):
    refused(cli("new", "adam", "--dir", tmp_path), "'adam'", "installed rule")
    assert not list(tmp_path.iterdir())


def test_a_missing_folder_is_refused(cli, tmp_path):
    refused(cli("new", "mine", "--dir", tmp_path / "none"), "--dir")


def test_new_is_a_command():
    assert "new" in COMMANDS
