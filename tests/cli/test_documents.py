import re
import shlex
from pathlib import Path

import pytest

from derivations.cli.main import COMMANDS, _parser
from derivations.cli.rules_page import rules_html
from theory import available_rules, derive

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
    Path("net.py").write_text("class Net:\n    def __init__(self, width: int = 4): ...\n")
    Path("run.toml").write_text('rule = "rmsprop"\nlr = 0.004\n')
    arguments = shlex.split(line, comments=True)[1:]
    parser, chosen = _parser(arguments)
    assert chosen is not None
    parser.parse_args(arguments)


@pytest.mark.parametrize(
    ("form", "start", "end"),
    [
        ("--latex", r"\documentclass", r"\end{document}"),
        ("--html", "<!DOCTYPE html>", "</html>"),
        ("--markdown", "# Central flow of gd", "2025."),
        ("--code", 'r"""The update rule gd', "main(sys.argv[1:])"),
    ],
)
def test_formats_of_derive(cli, tmp_path, form, start, end):
    code, out, err = cli("derive", "gd", form)
    assert code == 0 and not err
    assert out.startswith(start) and out.rstrip().endswith(end)
    assert cli("derive", "gd", form, "-o", tmp_path / "out")[:2] == (0, "")
    assert (tmp_path / "out").read_text() == out


@pytest.mark.tex
def test_pdf_of_derive(cli, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, err = cli("derive", "gd", "--pdf")
    assert (code, out, err) == (0, "", "written: gd.pdf\n")
    assert (tmp_path / "gd.pdf").read_bytes().startswith(b"%PDF")


def test_pdf_without_tex_says_what_to_install(cli, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    code, out, err = cli("derive", "gd", "--pdf", "-o", tmp_path / "gd.pdf")
    assert code == 2 and not out and err.count("\n") == 1 and "install TeX Live" in err


def test_a_page_of_rules_gives_what_is_derived_or_the_reason():
    page = rules_html({name: available_rules()[name] for name in ("gd", "rmsprop", "lion")})
    assert page.count("<tr><td>") == 2 + 1 + 2
    assert "not differentiable" in page


@pytest.mark.slow
def test_the_page_of_all_rules(cli, tmp_path):
    code, out, err = cli("list", "--html", "-o", tmp_path / "rules.html")
    page = (tmp_path / "rules.html").read_text()
    assert code == 0 and not out and not err
    for name, rule in available_rules().items():
        assert f"<td>{name}</td>" in page
        assert rule.refused is None or rule.refused in page
    assert "src=" not in page and "href=" not in page


def test_list_refuses_a_file_without_a_page(cli, tmp_path):
    code, out, err = cli("list", "-o", tmp_path / "x")
    assert code == 2 and not out and "--html" in err


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
