"""LaTeX of expressions and of prose; lines that fit the page."""

import pytest
import sympy as sp

from theory.display import LINE_WIDTH, equation_lines, width
from theory.printer import signs_inside, to_latex
from theory.prose import latex_text, markdown_text, unicode_text
from theory.symbols import HSH, BlockTotal, Shape, Sigma, Total, g, gradS, h, q, quantity, u, v, w, y2

nu, nu_b = quantity("nu", Shape.PARAMETER, nonnegative=True), quantity("nu", Shape.BLOCK)
beta2 = quantity("beta2", Shape.SCALAR)


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
        (quantity("weight", Shape.SCALAR), r"\mathrm{weight}"),
        (quantity("nu_max", Shape.PARAMETER), r"{\nu_{max}}_{i}"),
    ],
)
def test_expression(expr, latex):
    assert to_latex(expr) == latex


@pytest.mark.parametrize(
    "expr", [-(beta2 - 1) * g, -(g - q) / (beta2 - 2), g - q - w, sp.exp(-(g - q) * h), -2 * (g - q) * (w - 3)]
)
def test_moving_signs_inside_keeps_the_value(expr):
    assert sp.simplify(signs_inside(expr) - expr) == 0


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
def test_prose_in_latex(plain, latex):
    assert latex_text(plain).isascii()
    assert latex is None or latex_text(plain) == latex


def test_prose_in_unicode_and_markdown():
    plain = r"\lambda/\lambda^* <= 1, nu_hat [u] 5 < 6"
    assert unicode_text(plain) == "λ/λ* ≤ 1, nu_hat [u] 5 < 6"
    assert markdown_text(plain) == r"λ/λ\* ≤ 1, nu\_hat \[u\] 5 \< 6"


def test_wide_sum_is_broken_between_terms_without_losing_any():
    terms = [sp.Symbol(f"alpha{k}", positive=True) * sp.Symbol(f"beta{k}", positive=True) for k in range(40)]
    lines = equation_lines("s", sp.Add(*terms))
    assert all(width(line) <= LINE_WIDTH + 8 for line in lines)
    assert all(rf"\alpha_{{{k}}} \beta_{{{k}}}" in " ".join(lines) for k in range(40))


def test_wide_fraction_names_its_halves():
    wide = sp.Add(*[sp.Symbol(f"a{k}") * sp.Symbol(f"c{k}") for k in range(30)])
    shown = "\n".join(equation_lines("x", wide / (1 + wide**2)))
    assert r"x &= \frac{N}{D}" in shown
    assert "N &= " in shown
    assert "D &= " in shown
