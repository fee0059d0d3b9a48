"""Documents of whole derivations: one content in every format, held against committed files, and through pdflatex."""

import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
import sympy as sp

from tests.theory import rules
from tests.theory.own_rule import own_rule
from theory import derivable_rules, derive, hyper, update_rule
from theory.document import Equation, Maths, Table, to_document
from theory.html import html, mathml
from theory.latex import document
from theory.markdown import markdown
from theory.pdf import PdfFailed, first_error, write_pdf
from theory.printer import to_latex
from theory.prose import latex_text, markdown_text, unicode_text
from theory.thresholds import at_numbers, positive_denominator, threshold_forms

GOLDEN = Path(__file__).parents[1] / "golden"
UPDATE = "run `pytest --update-golden tests/theory/test_documents.py` and review the difference"
FORMATS = {".tex": document, ".md": markdown, ".py.txt": lambda d: d.emitted.source}
TEST_RULES = {r.name: r for r in (rules.nesterov, rules.two_poles, rules.adabelief, rules.norm_and_decay, own_rule)}
ALL = [*derivable_rules(), *TEST_RULES]
derived = {}


def of(name):
    if name not in derived:
        derived[name] = derive(TEST_RULES.get(name, name))
    return derived[name]


@pytest.mark.parametrize("name", ALL)
def test_latex_is_complete_ascii(name):
    d = of(name)
    text = document(d)
    assert text.isascii()
    assert r"\texttt{U+" not in text
    assert set(re.findall(r"\\usepackage\{(\w+)\}", text)) == {"amsmath", "amssymb"}
    wanted = (*map(latex_text, d.assumptions), *map(latex_text, d.rule.references), to_latex(d.stability.printed[1]))
    assert all(part in text for part in wanted)
    positions = [text.index(rf"\section*{{{k} {latex_text(step.title)}}}") for k, step in enumerate(d.steps, 1)]
    assert positions == sorted(positions)
    assert r"\cdot\right" not in text


@pytest.mark.parametrize("name", ALL)
def test_every_format_says_the_same(name):
    content = to_document(of(name))
    pages = {unicode_text: html(of(name)), markdown_text: markdown(of(name)), latex_text: document(of(name))}
    formulas = sum(isinstance(b, Equation) for b in content.blocks)
    for words, page in pages.items():
        for step in of(name).steps:
            assert words(step.title) in page
    assert pages[markdown_text].count("\n$$\n") == 2 * formulas
    assert pages[unicode_text].count('<div class="wide equation">') == formulas
    assert len(re.findall(r"\\\[|\\begin\{align\*\}", pages[latex_text])) == formulas


class Structure(HTMLParser):
    """Fails where a page asks for anything from elsewhere, or where tags do not match or a formula holds LaTeX."""

    def __init__(self):
        super().__init__()
        self.open = []

    def handle_starttag(self, tag, attributes):
        assert tag not in {"script", "link", "img", "iframe"}
        assert not {"href", "src"} & {name for name, _ in attributes}
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "math" in self.open:
            assert not set(data) & set("\\{}_^"), data


@pytest.mark.parametrize("name", ALL)
def test_html_is_self_contained_and_leaves_no_latex(name):
    structure = Structure()
    structure.feed(html(of(name)))
    assert not structure.open


def test_letters_of_other_alphabets_are_characters():
    assert "𝔼" in mathml(r"\mathbb E")
    assert "<mi>ℬ</mi>" in mathml(r"\mathcal B'")
    assert "mathvariant" not in mathml(r"\mathcal A+\mathbb E")


@pytest.mark.parametrize("name", ALL)
def test_all_symbols_in_the_equations_are_defined(name):
    d = of(name)
    tables = [b for b in to_document(d).blocks if isinstance(b, Table)]
    defined = {cell.latex for row in tables[0].rows for cell in row if isinstance(cell, Maths)}
    for declared in (*d.update.hyper.values(), *(d.update.old(n) for n in d.update.states)):
        assert to_latex(declared) in defined


@update_rule(lr=hyper("(0, oo)"), momentum=hyper("[0, 1)"), m=rules.per_parameter())
def ball(s):
    """Heavy ball."""
    s.m = s.momentum * s.m + s.g
    s.w = s.w - s.lr * s.m


@pytest.mark.parametrize(
    ("rule", "meaning", "value"),
    [
        ("gd", "η times the sharpness", 2),
        (ball, "eigenvalues λ of P⁻¹H", 38),
        (ball, "η times the sharpness", 3.8),
        (rules.nesterov, "η times the sharpness", 1.35714285714),
    ],
)
def test_thresholds_at_numbers(rule, meaning, value):
    d = derive(rule)
    found = {form.meaning: form.expr for form in at_numbers(d, list(threshold_forms(d)))}
    assert float(found[meaning]) == pytest.approx(value, rel=1e-5)


def test_denominators_are_positive():
    beta = sp.Symbol("beta")
    shown = positive_denominator(-2 * (beta + 1) / (beta - 1))
    assert to_latex(shown) in {r"\frac{2 \beta + 2}{1 - \beta}", r"\frac{2 + 2 \beta}{1 - \beta}"}
    assert sp.simplify(shown + 2 * (beta + 1) / (beta - 1)) == 0


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("name", derivable_rules())
def test_golden(name, suffix, request):
    path, text = GOLDEN / f"{name}{suffix}", FORMATS[suffix](of(name))
    if request.config.getoption("--update-golden"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert path.is_file(), f"{path.relative_to(GOLDEN.parents[1])} is missing: {UPDATE}"
    assert text == path.read_text(encoding="utf-8"), f"{path.name} changed: {UPDATE}"


def test_no_golden_file_without_a_rule():
    assert {p.name.split(".")[0] for p in GOLDEN.iterdir()} <= set(derivable_rules())


def latex_source(name):
    """What is committed, for an installed rule; else the document."""
    path = GOLDEN / f"{name}.tex"
    return path.read_text(encoding="ascii") if name in derivable_rules() else document(of(name))


@pytest.mark.parametrize("name", ALL)
def test_documents_need_amsmath_and_amssymb_only(name):
    source = latex_source(name)
    assert re.findall(r"\\documentclass(.*)", source) == ["{article}"]
    assert set(re.findall(r"\\(?:usepackage|RequirePackage|input|include)\b.*", source)) == {
        r"\usepackage{amsmath}",
        r"\usepackage{amssymb}",
    }


@pytest.mark.tex
@pytest.mark.parametrize("name", ALL)
def test_pdflatex(name, tmp_path):
    assert shutil.which("pdflatex"), "pdflatex is not installed; deselect these tests with -m 'not tex'"
    (tmp_path / "d.tex").write_text(latex_source(name), encoding="ascii")
    command = ["pdflatex", "-halt-on-error", "-no-shell-escape", "-interaction=nonstopmode", "d.tex"]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)
    assert run.returncode == 0, run.stdout[-2000:]
    overfull = [float(m) for m in re.findall(r"Overfull \\hbox \((.+?)pt too wide\)", run.stdout)]
    assert max(overfull, default=0.0) <= 2, run.stdout  # 2 pt are not visible


@pytest.mark.tex
def test_pdf_is_written_and_always_the_same(tmp_path):
    for name in ("a.pdf", "b.pdf"):
        write_pdf(document(of("gd")), tmp_path / name)
    first, second = (re.sub(rb"/ID \[.*?\]", b"", (tmp_path / n).read_bytes()) for n in ("a.pdf", "b.pdf"))
    assert first.startswith(b"%PDF") and first == second


@pytest.mark.tex
def test_a_latex_failure_is_reported_with_its_first_error(tmp_path):
    broken = document(of("gd")).replace(r"\maketitle", "\\maketitle\n\\nosuchcommand")
    with pytest.raises(PdfFailed, match=r"does not accept the document: Undefined control sequence.* \(line \d+: "):
        write_pdf(broken, tmp_path / "x.pdf")
    assert not list(tmp_path.iterdir())


def test_without_pdflatex_one_sentence_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(PdfFailed, match="install TeX Live"):
        write_pdf("", tmp_path / "x.pdf")


def test_first_error_of_a_log():
    assert (
        first_error("noise\n! Missing $ inserted.\n<x>\nl.12 a_\n   b\n! Second.\n")
        == "Missing $ inserted. (line 12: a_)"
    )
    assert first_error("") == "it says nothing."


def test_deriving_html_needs_no_torch():
    script = "import sys; sys.modules['torch'] = None; from theory import derive; from theory.html import html; html(derive('gd'))"
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


def test_a_number_is_printed_to_six_digits():
    rows = [b for b in to_document(derive(ball)).blocks if isinstance(b, Table)][1].rows
    assert Maths("38") in rows[0] and Maths("3.8") in rows[-1]
