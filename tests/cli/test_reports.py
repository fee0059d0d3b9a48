import re
from html.parser import HTMLParser

import pytest

from derivations.cli import demo
from derivations.cli.refusal import CommandRefused
from derivations.report import derivation_of, draw_figures, report_html, style
from numerics import simulate
from numerics.records import ProcessRecord, Run
from numerics.run_directory import RunDirectory
from tests.numerics.problems import small_problem


class Page(HTMLParser):
    """Collects what a page refers to, its tags and its text."""

    def __init__(self, html):
        super().__init__()
        self.links, self.tags, self.text = [], [], ""
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [value for name, value in attrs if name in {"src", "href"}]

    def handle_data(self, data):
        self.text += data


def test_report_writes_a_self_contained_page_and_prints_the_table(cli, recorded):
    folder = recorded("a")
    code, out, err = cli("report", folder)
    assert code == 0
    assert "predicted loss, relative error" in out and "80 steps, complete" in out
    assert str(folder / "report.html") in err
    html = (folder / "report.html").read_text()
    page = Page(html)
    assert all(link.startswith("data:") for link in page.links)
    assert not re.search(r"<script|<link|@import|url\(", html)
    assert page.tags.count("math") > 10
    for word in (
        "Loss",
        "Eigenvalues",
        "Oscillation",
        "Optimizer states",
        "Distance",
        "Cost",
        "Derivation",
        "Settings",
        "a condition <&>",
    ):
        assert word in page.text
    assert {p.stem for p in (folder / "figures").iterdir()} == {
        "loss",
        "eigenvalues",
        "variances",
        "states",
        "gradient",
        "distances",
        "cost",
    }


def test_report_of_a_half_written_run_says_how_far_it_got(cli, recorded):
    folder = recorded("half", rows=30)
    code, out, _ = cli("report", folder)
    assert code == 0 and "30 of 80 steps" in out
    assert "30 of 80 steps" in (folder / "report.html").read_text()


@pytest.mark.parametrize(
    ("reason", "said"), [("KeyboardInterrupt: ", "interrupted"), ("ValueError: a <b>", "failed (ValueError: a <b>)")]
)
def test_report_says_in_words_how_a_run_ended(cli, tmp_path, reason, said):
    directory = RunDirectory.create(tmp_path / "run", {"config": {"rule": "gd", "hyper": {}, "steps": 9}})
    directory.append("discrete", {"loss": 1.0})
    directory.fail(reason)
    code, out, _ = cli("report", tmp_path / "run")
    assert code == 0 and f"1 of 9 steps, {said.split()[0]}" in out
    assert f"This run {'was ' * (said == 'interrupted')}{said}" in Page((tmp_path / "run/report.html").read_text()).text


def test_a_report_is_reproducible(recorded):
    run = Run.load(recorded("a"))
    assert report_html(run) == report_html(run)


@pytest.mark.parametrize(
    "processes", [{}, {"discrete": {}}, {"discrete": {"loss": [1.0, 0.5]}}, {"central": {"loss": [float("nan")] * 3}}]
)
def test_a_poor_run_still_gets_a_page(processes):
    import numpy as np

    records = {n: ProcessRecord(n, {k: np.array(v) for k, v in s.items()}) for n, s in processes.items()}
    html = report_html(Run(records, {"config": {"rule": "<b>", "hyper": {}}}))
    assert "&lt;b&gt;" in html and "<b>" not in html


def test_the_equations_are_those_of_the_rule_that_was_run(recorded):
    d = derivation_of(Run.load(recorded("a")))
    assert d is not None and d.rule.name == "rmsprop"
    assert derivation_of(Run({}, {"config": {"rule": "no such rule"}})) is None
    scheduled = derivation_of(Run({}, {"config": {"rule": "gd", "hyper": {"lr": "0.1/sqrt(t)"}}}))
    assert scheduled is not None and scheduled.update.schedules


def test_report_of_a_folder_that_is_no_run(cli, tmp_path):
    for command in ("report", "compare"):
        code, out, err = cli(command, tmp_path)
        assert (code, out) == (2, "")
        assert err.startswith("centralflow: ") and "run directory" in err and err.count("\n") == 1


def test_compare_has_a_column_per_run(cli, recorded, monkeypatch, tmp_path):
    recorded("a"), recorded("half", rows=30)
    monkeypatch.chdir(tmp_path)
    code, out, _ = cli("compare", "a", "half")
    assert code == 0
    assert re.search(r"figure\s+a\s+half", out) and "30 of 80 steps" in out and "cost, gradients per step" in out


def test_the_demo_replaces_its_own_folders_only(tmp_path):
    folder = tmp_path / "demo-gd"
    demo.clear(folder)
    demo.mark(folder)
    (folder / "old").write_text("x")
    demo.clear(folder)
    assert not folder.exists()
    folder.mkdir()
    (folder / "mine").write_text("x")
    with pytest.raises(CommandRefused, match="something else"):
        demo.clear(folder)
    assert (folder / "mine").exists()


@pytest.mark.slow
def test_the_demo_runs(cli, tmp_path):
    code, out, _ = cli("demo", "--out", tmp_path, "--steps", "2")
    assert code == 0 and "cost, gradients per step" in out
    page = Page((tmp_path / "demo" / "report.html").read_text())
    for rule in ("gd", "scalar_rmsprop", "rmsprop"):
        assert f"../demo-{rule}/report.html" in page.links
        assert (tmp_path / f"demo-{rule}" / "report.html").exists()


def test_a_run_of_an_unknown_rule_says_how_to_get_its_equations():
    page = report_html(Run({}, {"config": {"rule": "mine"}}))
    assert "--rule FILE.py" in page and "<math" not in page


def test_report_takes_the_rule_from_the_command_line(cli, recorded):
    folder = recorded("a", rows=40)

    def reported(*arguments):
        assert cli("report", folder, *arguments)[0] == 0
        return Page((folder / "report.html").read_text()).text

    assert "accumulator nu" in reported()
    assert "accumulator nu" not in reported("--rule", "gd")


def test_the_equations_of_a_rule_file_come_from_the_file(tmp_path):
    file = tmp_path / "mine.py"
    source = (
        "from theory import hyper, update_rule\n\n\n"
        "@update_rule(lr=hyper('(0, oo)'))\n"
        "def mine(s):\n    s.w = s.w - s.lr * s.g / 2\n"
    )
    file.write_text(source)
    run = Run({}, {"config": {"rule": "mine", "rule_file": str(file), "hyper": {"lr": 0.1}}})
    found = derivation_of(run)
    assert found is not None and found.rule.name == "mine"
    file.write_text(source.replace("mine", "other"))
    assert derivation_of(run) is None
    file.unlink()
    assert derivation_of(run) is None


def test_further_processes_have_their_curves():
    """Every process that a run may have is drawn in the loss, the eigenvalues and the distances."""
    names = ("discrete", "midpoint", "stable", "central", "ablated", "stationary", "rod")
    run = simulate(small_problem(), "rmsprop", {"lr": 0.02, "eps": 1e-4}, 4, processes=names, check=False)
    drawn = {drawing.stem: drawing.svg for drawing in draw_figures(run)}
    for name in ("ablated", "stationary", "rod"):
        for stem in ("loss", "eigenvalues", "distances"):
            colour = style.OTHERS[name][0].lower()
            assert colour in drawn[stem], (name, stem)
