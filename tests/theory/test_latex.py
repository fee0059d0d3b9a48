"""LaTeX of expressions; of whole derivations, against committed files and through pdflatex."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import sympy as sp

from tests.theory import rules
from tests.theory.own_rule import own_rule
from theory import available_rules, derive
from theory.latex import LINE_WIDTH, display, text, to_latex, width
from theory.symbols import HSH, BlockTotal, Shape, Sigma, Total, g, gradS, h, q, quantity, u, v, w, y2

GOLDEN = Path(__file__).parents[1] / "golden"
nu, nu_b = quantity("nu", Shape.PARAMETER, nonnegative=True), quantity("nu", Shape.BLOCK)
beta2 = quantity("beta2", Shape.SCALAR)
TEST_RULES = {r.name: r for r in (rules.nesterov, rules.two_poles, rules.adabelief, rules.norm_and_decay, own_rule)}


@pytest.mark.parametrize(
    ("expr", "latex"),
    [
        (g, "g_{i}"),
        (nu, r"\nu_{i}"),
        (nu_b, r"\nu_{b}"),
        (beta2, r"\beta_2"),
        (quantity("nu_next", Shape.PARAMETER), r"\nu_{i}^{+}"),
        (quantity("nu_dot", Shape.SCALAR), r"\dot{\nu}"),
        (y2, "{y'}_{i}"),
        (HSH, r"(H\Sigma H)_{ii}"),
        (Total(g**2), r"\lVert g\rVert^{2}"),
        (Total(g * gradS), r"\langle g,\nabla S\rangle"),
        (Total(sp.S.One), "n"),
        (Total(HSH), r"\operatorname{tr}(H\Sigma H)"),
        (Total(Sigma), r"\operatorname{tr}{\Sigma}"),
        (Total(g**2 * u * v), r"\sum_{j}\left(g_{j}^{2} u_{j} v_{j}\right)"),
        (Total(nu_b * g), r"\sum_{j}\left(\nu_{b(j)} g_{j}\right)"),
        (BlockTotal(g**2), r"\lVert g_{b}\rVert^{2}"),
        (BlockTotal(g * u), r"\langle g_{b},u_{b}\rangle"),
        (BlockTotal(sp.S.One), "n_{b}"),
        (BlockTotal(HSH), r"\sum_{j\in b}\left((H\Sigma H)_{jj}\right)"),
        (Total(BlockTotal(g * u) * w), r"\sum_{j}\left(w_{j} \langle g_{b(j)},u_{b(j)}\rangle\right)"),
        (Total(g * u) ** 2, r"\langle g,u\rangle^{2}"),
        (Total(g**2) ** 2, r"\left(\lVert g\rVert^{2}\right)^{2}"),
        (sp.sqrt(Total(g**2)), r"\sqrt{\lVert g\rVert^{2}}"),
        (1 - beta2, r"1 - \beta_2"),
        (-(beta2 - 1) * g, r"g_{i} \left(1 - \beta_2\right)"),
        (-h * (g + q), r"- h \left(g_{i} + q_{i}\right)"),
        (quantity("nu_max", Shape.PARAMETER), r"{\nu_{max}}_{i}"),
    ],
)
def test_expression(expr, latex):
    assert to_latex(expr) == latex


@pytest.mark.parametrize(
    "expr", [-(beta2 - 1) * g, -(g - q) / (beta2 - 2), g - q - w, sp.exp(-(g - q) * h), -2 * (g - q) * (w - 3)]
)
def test_moving_signs_inside_keeps_the_value(expr):
    from theory.latex import _signs_inside

    assert sp.simplify(_signs_inside(expr) - expr) == 0


@pytest.mark.parametrize(
    ("plain", "latex"),
    [
        ("50 % of a_b & c", r"50 \% of a\_b \& c"),
        ("λ* ≤ 2", r"\ensuremath{\lambda^{*}} \ensuremath{\le} 2"),
        ("x <= y", r"x \ensuremath{\le} y"),
        (r"\lambda^* and \input", r"\ensuremath{\lambda^{*}} and \textbackslash{}input"),
        ("δ⁴", r"\ensuremath{\delta}\ensuremath{^{4}}"),
        ("Schölkopf, Łojasiewicz é", None),
        ("ẇ", r"\ensuremath{\dot w}"),
        ("\U0001f600", r"\texttt{U+1F600}"),
    ],
)
def test_text(plain, latex):
    assert text(plain).isascii()
    assert latex is None or text(plain) == latex


def test_wide_sum_is_broken_between_terms_without_losing_any():
    terms = [sp.Symbol(f"alpha{k}", positive=True) * sp.Symbol(f"beta{k}", positive=True) for k in range(40)]
    shown = display("s", sp.Add(*terms))
    assert all(width(line) <= LINE_WIDTH + 8 for line in shown.splitlines())
    assert all(rf"\alpha_{{{k}}} \beta_{{{k}}}" in shown for k in range(40))


def test_wide_fraction_names_its_halves():
    wide = sp.Add(*[sp.Symbol(f"a{k}") * sp.Symbol(f"c{k}") for k in range(30)])
    shown = display("x", wide / (1 + wide**2))
    assert r"x &= \frac{N}{D}" in shown
    assert "N &= " in shown
    assert "D &= " in shown


@pytest.fixture(scope="module")
def documents():
    registered = {name: derive(name).to_latex() for name in available_rules()}
    return registered | {name: derive(rule).to_latex() for name, rule in TEST_RULES.items()}


ALL = [*available_rules(), *TEST_RULES]


@pytest.mark.parametrize("name", ALL)
def test_document_is_complete_ascii(documents, name):
    document, d = documents[name], derive(TEST_RULES.get(name, name))
    assert document.isascii()
    assert r"\texttt{U+" not in document
    assert set(re.findall(r"\\usepackage\{(\w+)\}", document)) == {"amsmath", "amssymb"}
    for wanted in (
        *(s.title for s in d.steps),
        *map(text, d.assumptions),
        *map(text, d.rule.references),
        to_latex(d.threshold),
    ):
        assert wanted in document
    positions = [document.index(rf"\quad {step.title}}}") for step in d.steps]
    assert positions == sorted(positions)
    assert r"\cdot\right" not in document


@pytest.mark.parametrize("name", available_rules())
def test_golden(documents, name, request):
    path = GOLDEN / f"{name}.tex"
    if request.config.getoption("--update-golden"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(documents[name], encoding="ascii")
    assert path.is_file(), f"{path} is missing: run pytest --update-golden and review what it writes"
    assert documents[name] == path.read_text(encoding="ascii"), (
        "the document changed: run pytest --update-golden and review the difference"
    )


def test_no_golden_file_without_a_rule():
    assert {p.stem for p in GOLDEN.glob("*.tex")} <= set(available_rules())


@pytest.mark.tex
@pytest.mark.parametrize("name", ALL)
def test_pdflatex(documents, name, tmp_path):
    assert shutil.which("pdflatex"), "pdflatex is not installed; deselect these tests with -m 'not tex'"
    (tmp_path / "d.tex").write_text(documents[name], encoding="ascii")
    run = subprocess.run(
        ["pdflatex", "-halt-on-error", "-interaction=nonstopmode", "d.tex"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert run.returncode == 0, run.stdout[-2000:]
    overfull = [float(m) for m in re.findall(r"Overfull \\hbox \((.+?)pt too wide\)", run.stdout)]
    assert max(overfull, default=0.0) <= 2, run.stdout  # 2 pt are not visible
