import re
import shlex
from pathlib import Path

import pytest

from derivations.cli.main import COMMANDS, _parser
from theory import derive

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
SHELL = [line for kind, block in BLOCKS if not kind for line in block.splitlines()]
PYTHON = [block for kind, block in BLOCKS if kind == "python"]
COMMAND_LINES = [line for line in SHELL if line.startswith("centralflow ")] + [c.example for c in COMMANDS.values()]
RULE_FILE = next(block for block in PYTHON if block.startswith("# mine.py"))


@pytest.mark.parametrize("line", COMMAND_LINES)
def test_documented_command_lines_are_accepted(line, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(RULE_FILE)
    Path("run.toml").write_text('rule = "rmsprop"\nlr = 0.004\n')
    arguments = shlex.split(line, comments=True)[1:]
    parser, chosen = _parser(arguments)
    assert chosen is not None
    parser.parse_args(arguments)


def test_every_command_is_in_the_readme():
    shown = {line.split()[1] for line in SHELL if line.startswith("centralflow ")}
    assert shown == set(COMMANDS)


def test_the_rule_in_the_readme_derives(tmp_path):
    (tmp_path / "mine.py").write_text(RULE_FILE)
    assert derive(tmp_path / "mine.py").rule.name == "mine"


@pytest.mark.slow
def test_the_readme_examples_run(capsys):
    for block in PYTHON:
        exec(compile(block, "README.md", "exec"), {})
    assert "predicted loss" in capsys.readouterr().out


def test_make_targets_in_the_readme_exist():
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([\w-]+):", makefile, re.MULTILINE))
    named = set(re.findall(r"(?:^|`)make ([\w-]+)", README, re.MULTILINE))
    assert named and named <= targets


def test_the_lock_file_is_portable():
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    names = [re.fullmatch(r"([A-Za-z0-9._-]+)==[0-9][A-Za-z0-9.]*", line) for line in lines]
    assert all(names), [line for line, match in zip(lines, names, strict=True) if not match]
    assert {"torch", "sympy", "numpy", "pytest", "ruff", "mypy", "setuptools"} <= {match[1] for match in names if match}


def test_documents_name_no_machine():
    for name in ("README.md", "Makefile", "requirements.lock", "CITATION.cff", ".ci/run"):
        assert not re.search(r"/(home|root|work|tmp|Users)/", (ROOT / name).read_text()), name
