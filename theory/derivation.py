r"""The derivation: an ordered chain of named steps, every intermediate kept.

Each step is a function from earlier results to its own, with a precondition (it refuses what it does not cover) and checks
that SymPy performs. Their order is the theory's: frozen stability before averages, averages before the flow, the flow before
the complementarity problem that closes it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import sympy as sp

from theory.at_rest import emit_at_rest
from theory.averaging import Averages, as_variance, average, published_averages
from theory.clock import after_long
from theory.codegen import EmittedRule, emit
from theory.complementarity import Complementarity, complementarity
from theory.fixed_point import FixedPoint, fixed_point
from theory.flow import Flow, to_flow
from theory.html import html
from theory.latex import document
from theory.markdown import markdown
from theory.modified_flow import ModifiedFlow, modified_flow
from theory.modulation import Modulation, modulation
from theory.normal_form import NormalForm, to_normal_form
from theory.pdf import write_pdf
from theory.projection import Projection, project
from theory.registry import load_rule
from theory.ripple import Ripple, ripple
from theory.rule import Update, UpdateRule
from theory.stability import Stability, stability
from theory.standalone import torch_source
from theory.symbols import HSH, Quantity, Shape, g, q, w


@dataclass(frozen=True)
class Step:
    """One step of the chain, as it is documented.

    ``equations`` are (label, left side, right side), the sides as LaTeX text or SymPy expressions; ``assumptions`` those the
    step adds; ``checks`` what SymPy verified, claim → outcome (all true, or the step would have failed).
    """

    name: str
    title: str
    reference: str
    justification: str
    equations: tuple[tuple[str, str, Any], ...]
    assumptions: tuple[str, ...] = ()
    checks: dict[str, bool] | None = None


@dataclass(frozen=True)
class Derivation:
    """A rule's whole derivation: every intermediate result of the chain, its documents and its code."""

    rule: UpdateRule
    update: Update
    normal_form: NormalForm
    stability: Stability
    averages: Averages
    flow: Flow
    complementarity: Complementarity
    projection: Projection
    ripple: Ripple
    modified_flow: ModifiedFlow
    modulation: Modulation

    @property
    def filter(self) -> sp.Expr:
        """Transfer function F(z) from gradient to step, normalised to F(1) = 1."""
        return self.normal_form.transfer

    @property
    def preconditioner(self) -> sp.Expr:
        """P, a function of the updated accumulators (generic coordinate)."""
        return self.normal_form.P

    @property
    def threshold(self) -> sp.Expr:
        """λ*, the stability threshold of the eigenvalues of P⁻¹H (T2)."""
        return self.stability.threshold

    @property
    def stable_flow(self) -> dict[sp.Symbol, sp.Expr]:
        """Right-hand sides with Σ = 0, by variable."""
        return {w: self.flow.w_stable} | {a: self.flow.settled(a) for a in self.flow.a_stable}

    @property
    def central_flow(self) -> dict[sp.Symbol, sp.Expr]:
        """Right-hand sides (T8), (T9), with q = ∇⟨H,Σ⟩ and (HΣH) as symbols, by variable."""
        return {w: self.flow.w_average} | {a: self.flow.a_average(a) for a in self.flow.a_X}

    @property
    def predictions(self) -> dict[str, sp.Expr]:
        """What the flow predicts for time averages of the discrete run (T6)."""
        L, trX = sp.Symbol("L"), sp.Symbol(r"\operatorname{tr}X")
        from_theory = {"loss": L + self.threshold * trX / 2}
        return from_theory | {"gradient_norm2": sp.Add((g + q / 2) ** 2, HSH)}

    @property
    def assumptions(self) -> tuple[str, ...]:
        """Everything assumed on the way, in order."""
        return tuple(a for step in self.steps for a in step.assumptions)

    @cached_property
    def fixed_point(self) -> FixedPoint:
        """Where the preconditioner settles if w is held: (T13) and the program (T14)."""
        return fixed_point(self.normal_form, self.averages, self.flow, self.stability)

    @cached_property
    def steps(self) -> tuple[Step, ...]:
        """The chain as it is documented."""
        from_results = _describe(self)
        return tuple(from_results)

    @cached_property
    def emitted(self) -> EmittedRule:
        """The same expressions as Python source over a tensor namespace."""
        return emit(self)

    @cached_property
    def emitted_at_rest(self) -> EmittedRule:
        """The same with the functions of the preconditioner's fixed point; refuses a rule that has none (`emit_at_rest`)."""
        return emit_at_rest(self)

    @property
    def adapts(self) -> bool:
        """Whether P depends on the gradient, through an accumulator that is no counter."""
        return any(self.normal_form.P.has(a) and not self.update.states[str(a)].counter for a in self.flow.a_X)

    def rule_symbol(self, name: str) -> Quantity:
        """Symbol of a hyperparameter or state."""
        return self.update.hyper[name] if name in self.update.hyper else self.update.old(name)

    def limit(self, expr: sp.Expr) -> sp.Expr:
        """An expression after a long time, when bias corrections have died out."""
        return after_long(self.update, expr)

    def certify(self, hyper: dict[str, float]) -> None:
        """Certify at numbers that the flip comes first; raises RuleRefused where it does not."""
        given = {n: h.default for n, h in self.rule.hyper.items() if h.default is not None} | dict(hyper)
        self.stability.certify({self.update.hyper[n]: v for n, v in given.items() if n in self.update.hyper})

    def to_latex(self) -> str:
        """The derivation as a complete LaTeX document."""
        return document(self)

    def to_html(self) -> str:
        """The derivation as one self-contained page with MathML."""
        return html(self)

    def to_markdown(self) -> str:
        """The derivation as Markdown with $$ formulas."""
        return markdown(self)

    def to_pdf(self, path: str | Path) -> None:
        """Compile the document with pdflatex; PdfFailed says in one sentence why it cannot."""
        write_pdf(document(self), path)

    def to_torch_source(self) -> str:
        """The rule, its stable and its central flow as one file that needs PyTorch alone."""
        return torch_source(self)

    def save_latex(self, path: str | Path) -> None:
        """Write the LaTeX document to a file."""
        Path(path).write_text(self.to_latex(), encoding="utf-8")


def derive(rule: UpdateRule | str | Path, **choices: Any) -> Derivation:
    """Derive everything the theory says about a rule.

    Args:
        rule: a rule, the name of an installed one, or the path of a rule file.
        **choices: options of the rule (bool), and schedules: a hyperparameter as an expression or text in the step counter t.

    Returns:
        The derivation.

    Raises:
        RuleRefused: If the rule does not fit the theory; one sentence names the offending term.
    """
    loaded = load_rule(rule)
    update = loaded.record(**choices)
    form = to_normal_form(update)
    stab = stability(form)
    averages = average(form)
    flow = to_flow(form, averages)
    closure = complementarity(form, stab, flow)
    return Derivation(
        loaded,
        update,
        form,
        stab,
        averages,
        flow,
        closure,
        project(form),
        ripple(form, averages),
        modified_flow(form),
        modulation(form),
    )


def _clocks(d: Derivation) -> str:
    """How clocks move, where there are any."""
    clocks = ", ".join(str(c) for c in d.normal_form.clocks)
    return (
        f" No gradient reaches {clocks}: each step advances it exactly, first, and its rate is its change in a step."
        if clocks
        else ""
    )


def _inertial(d: Derivation) -> Step:
    form = d.normal_form
    own = tuple((f"filter {m}", form.outputs[m], expr) for m, expr in form.filters.items())
    return Step(
        "inertial",
        "Filter states and the inertial flow",
        "section 4",
        "The flow above eliminates the filter. The averaged map keeps its states and advances them with the averaged gradient, one step "
        "per optimizer step; the inertial flow replaces them by one pole of equal lag, started so that both relax by the same total.",
        (
            *own,
            ("drive", r"(F\,\nabla L)", form.drive),
            ("lag", r"\ell=\tfrac12-F'(1)", form.lag),
            ("inertial filter", r"\dot m", r"\ell^{-1}\left(\mathbb E[\nabla L]-m\right)"),
            ("inertial flow", r"\dot w", r"-\gamma w-P^{-1}m"),
            ("start", "m(0)", form.pole_start),
            ("acting at once", r"F(\infty)", form.feedthrough),
        ),
        ("slow modes see the filter through its gain and lag only; critical modes follow their mean force at once",),
    )


def _second_order(d: Derivation) -> Step:
    return Step(
        "second_order",
        "The stable flow to second order",
        "(T15)",
        "With P frozen the slow root of the characteristic equation is that of gradient flow on a penalised loss; "
        "use it only on modes with lag times eigenvalue far below 1.",
        (
            ("modified flow", r"\dot w", r"-P^{-1}\nabla\left[L+\rho\,\lVert\nabla L\rVert_{P^{-1}}^2\right]"),
            ("penalty", r"\rho", d.modified_flow.penalty),
        ),
        ("P does not move",),
        d.modified_flow.checks,
    )


def _ripples(d: Derivation) -> Step:
    return Step(
        "ripple",
        "Ripple of the accumulators",
        "section 2",
        "Where the gradient does not vanish the accumulators oscillate at first order, which the averages drop. "
        + (
            "The vectors are what an oscillation y of the gradient and the mean gradient lose by it, and must be small against these; "
            "a run measures both shares."
            if d.normal_form.shape is Shape.MATRIX
            else "Both quantities must be far below 1; a run measures them."
        ),
        (
            ("threshold", r"r_{\lambda^*}", d.ripple.threshold),
            (
                "drift",
                r"r_{\dot w}",
                d.ripple.drift if d.normal_form.shape is Shape.MATRIX else as_variance(d.ripple.drift),
            ),
        ),
        ("the ripple of the accumulators is negligible",),
    )


def _modulations(d: Derivation) -> Step:
    return Step(
        "modulation",
        "Modulations of the oscillation",
        "beyond the published theory",
        "Let sharpening alone raise a critical eigenvalue by a share α of λ* per step. Amplitude and excess then turn about the flow at "
        "frequency ω per step, and grow by the factor exp(π ϱ) in each turn: slow filters need slow sharpening. A run measures ϱ.",
        (
            ("growth of the amplitude", r"\Gamma", d.modulation.printed[0]),
            ("delay of that growth", r"\tau", d.modulation.printed[1]),
            ("frequency", r"\omega", r"\sqrt{2\alpha\Gamma}"),
            ("number", r"\varrho", r"\left(\tfrac12-F'(1)+\tau\right)\omega"),
        ),
        ("modulations of the oscillation stay small: ϱ is far below 1",),
    )


def _describe(d: Derivation) -> list[Step]:
    form, stab, flow, closure = d.normal_form, d.stability, d.flow, d.complementarity
    return [
        Step(
            "update",
            "The update rule",
            "",
            "One step, as declared; a superscript + marks updated states.",
            tuple((e.state, f"{e.state}_next", e.expr) for e in d.update.equations),
        ),
        Step(
            "normal_form",
            "Normal form",
            "section 1",
            "Filters and accumulators are found by differentiation: a filter is linear in (filters, g), an accumulator has no first derivative in them at zero.",
            (("preconditioner", "P", form.P), ("filter", "F(z)", form.transfer), ("decay", r"\gamma", form.gamma)),
            ("the accumulators move slowly against the oscillation, so that F may be computed with P frozen",),
        ),
        Step(
            "stability",
            "Linear stability and the threshold",
            "(T1), (T2)",
            "The first root leaves the unit disc at z = -1: every Hurwitz determinant below is positive for x = \\lambda/\\lambda^* in (0, 1)."
            if stab.proved
            else "That the first root leaves the unit disc at z = -1 is certified at numbers, by counting roots of the Hurwitz determinants below in x = \\lambda/\\lambda^*.",
            (
                *((f"schedule {k}", k, e) for k, e in form.held.items() if stab.printed[1].has(k)),
                ("polynomial", r"\chi(z;\lambda)", stab.printed[0]),
                ("threshold", r"\lambda^*", stab.printed[1]),
                *((f"condition {i}", f"D_{{{i}}}", c) for i, c in enumerate(stab.conditions)),
            ),
            ("the first instability is a flip (period 2)",),
            {"the flip comes first": stab.proved} if stab.proved else None,
        ),
        Step(
            "averages",
            "Averages over the oscillation",
            "(T3)-(T6)",
            "The oscillation changes sign each step; its time average is the mean over both signs, to second order.",
            (
                ("gradient", r"\mathbb E[\nabla L]", r"\nabla L+\tfrac12\nabla\langle H,\Sigma\rangle"),
                ("loss", r"\mathbb E[L]", r"L+\tfrac12\langle H,\Sigma\rangle=L+\tfrac12\lambda^*\operatorname{tr}X"),
                *(
                    (
                        f"average of {a}",
                        rf"\mathbb E[f_{{{a}}}]",
                        d.averages.mean[a].xreplace(d.averages.settle) + d.averages.variance_form(a),
                    )
                    for a in form.accumulators
                ),
            ),
            (
                "the oscillation δ is small: terms of order δ⁴ are dropped",
                "E[δ] = 0 and third moments of δ are negligible",
                "oscillating modes sit at the threshold: HΣ = λ*PΣ (T3)",
                "the cross term ∇L ∇⟨H,Σ⟩ in the average of ∇L∇Lᵀ is dropped",
            ),
            published_averages(),
        ),
        Step(
            "flow",
            "From the averaged map to the flow",
            "(T7)-(T9)",
            "Accumulators are taken at their updated values; replacing the previous value by a - da/dt keeps the lag of the discrete average."
            + _clocks(d),
            (
                ("parameters", r"\dot w", flow.w_average),
                *((f"accumulator {a}", f"{a}_dot", flow.a_average(a)) for a in flow.a_X),
                ("stable parameters", r"\dot w\,|_{\Sigma=0}", flow.w_stable),
            ),
            ("second time derivatives of the accumulators are negligible",),
        ),
        Step(
            "complementarity",
            "The complementarity problem for the covariance",
            "(T10), (T11)",
            "The oscillation covariance keeps the margin on the critical modes from becoming negative: 0 <= X, complementary to A + B[X] >= 0.",
            (
                ("margin rate at X = 0", r"\mathcal A'", closure.stable),
                ("per unit of X", r"\mathcal B'", closure.per_X),
                *(
                    (("variance, one mode", r"\sigma^2=\max\left(0,\;\cdot\right),\ \cdot", closure.variance),)
                    if closure.variance is not None
                    else (("one mode", r"X=\max\left(0,\;\cdot\right),\ \cdot", closure.one_mode),)
                ),
            ),
            ("the critical modes are separated from the rest of the spectrum by a gap",),
        ),
        d.projection.step(Step),
        *([_inertial(d)] if form.filters else []),
        _second_order(d),
        _modulations(d),
        *([_ripples(d)] if d.ripple.threshold != 0 else []),
        d.fixed_point.step(Step),
    ]
