r"""The normal form of a rule: w⁺ = w − P(a)⁻¹ (F g) − γ w (THEORY section 1).

Which states are filters and which are accumulators is found by differentiation, never declared.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from itertools import combinations

import sympy as sp

from theory.calculus import directional, is_linear, is_zero, rationally, simplify
from theory.clock import advanced, clocks_of, undone
from theory.errors import RuleRefused
from theory.matrices import common_matrix
from theory.operations import MatrixSign
from theory.rule import Update
from theory.symbols import Quantity, Reduction, Shape, g, quantity, shape_of, w, z
from theory.unit_gain import to_unit_gain

NONSMOOTH = (MatrixSign, sp.sign, sp.Abs, sp.Max, sp.Min, sp.Piecewise, sp.Heaviside, sp.floor, sp.ceiling, sp.Mod)
_ALONG_G = quantity("dg", Shape.PARAMETER)


@dataclass(frozen=True)
class NormalForm:
    """A rule in normal form.

    ``accumulators`` and ``filters`` map a state's symbol to its next value: an accumulator's as f(a, g, m), where m stands
    for the updated filter states, a filter's as a linear form in (m, g). ``clocks`` are the accumulators that no gradient reaches; they advance
    first, so that f is in *updated* clocks, while a clock's own map is in the clocks before. P and γ are in the *updated* accumulators, written
    with the same symbols. ``drive`` is (F g)_t in g and the filter states before and after the step, ``transfer`` is F(z), both
    with F(1) = 1; ``gains`` holds each filter's transfer from g to its updated state, ``outputs`` the symbols of the updated
    filters, ``scales`` the factors by which bias-corrected filters differ from the rule's own states (`to_unit_gain`).
    """

    update: Update
    accumulators: dict[Quantity, sp.Expr]
    filters: dict[Quantity, sp.Expr]
    outputs: dict[Quantity, Quantity]
    P: sp.Expr
    gamma: sp.Expr
    drive: sp.Expr
    transfer: sp.Expr
    gains: dict[Quantity, sp.Expr]
    scales: dict[Quantity, sp.Expr]
    clocks: tuple[Quantity, ...] = ()
    held: dict[Quantity, sp.Expr] = field(default_factory=dict)
    held_P: sp.Expr = sp.S.One
    held_transfer: sp.Expr = sp.S.One
    held_drive: sp.Expr = g

    @property
    def feedthrough(self) -> sp.Expr:
        """F(∞): how much of a gradient acts in its own step."""
        at_once = rationally(lambda F: sp.limit(F, z, sp.oo), self.held_transfer) if self.filters else sp.S.One
        return at_once.xreplace(self.held)

    @property
    def lag(self) -> sp.Expr:
        r"""Lag of the one-pole filter that replaces F in the inertial flow: ½ − F′(1), in steps (THEORY section 4)."""
        return self.held_lag.xreplace(self.held)

    @property
    def held_lag(self) -> sp.Expr:
        """The lag in the symbols of ``held``."""
        return rationally(sp.factor, sp.Rational(1, 2) - sp.diff(self.held_transfer, z).subs(z, 1))

    @property
    def pole_start(self) -> sp.Expr:
        r"""Where the one-pole filter starts, m(0), so that both relax from the rule's filter states by the same total.

        At a constant gradient the rule's drive exceeds it by a geometric series; its sum equals lag·(m(0) − ∇L).
        """
        if not self.filters:
            return g
        old = list(self.filters)
        A = sp.Matrix([[sp.diff(self.filters[a], b) for b in old] for a in old])
        new = A * sp.Matrix(old)
        drive = self.held_drive.xreplace({self.outputs[m]: e for m, e in zip(old, new, strict=True)} | {g: sp.S.Zero})
        settled = [self.gains[m].subs(z, 1) * g for m in old]
        series = (sp.eye(len(old)) - A).LUsolve(sp.Matrix([m - s for m, s in zip(old, settled, strict=True)]))
        total = drive.xreplace(dict(zip(old, series, strict=True)))
        return g + rationally(sp.factor, total / self.held_lag).xreplace(self.held)

    @property
    def shape(self) -> Shape:
        """Shape of the preconditioner: scalar, per block, per parameter (diagonal), or a matrix."""
        return shape_of(self.P)

    def at_gain(self, at: int) -> dict[Quantity, sp.Expr]:
        """Each filter output (updated and old) per unit of gradient at frequency z = at (1: mean, −1: flip)."""
        new = {self.outputs[m]: gain.subs(z, at) for m, gain in self.gains.items()}
        old = {m: (gain / z).subs(z, at) for m, gain in self.gains.items()}
        return new | old


def to_normal_form(update: Update) -> NormalForm:
    """Bring a recorded step into normal form.

    Args:
        update: the recorded step.

    Returns:
        The normal form; P is a function of the updated accumulators.

    Raises:
        RuleRefused: If the rule does not fit, naming the offending term and the reason.
    """
    _refuse_nonsmooth(update)
    update, scales = to_unit_gain(update)
    filters, accumulators = classify(update)
    recorded, (update, held) = update, _hold_coefficients(update)
    composed = _compose(update, filters)
    gains = _gains(update, filters, composed)
    step = _step_in_new_states(update, filters)
    gamma = _decay(update, step)
    M, drive = common_matrix(step + gamma * w)
    dc, transfer = _transfer(update, drive, filters, gains)
    rename = {update.new(n): update.old(n) for n in accumulators}
    outputs = {update.old(n): update.new(n) for n in filters}
    held = {k: e.xreplace(rename) for k, e in held.items()}

    def finished(expr: sp.Expr) -> sp.Expr:
        return expr.subs(rename).xreplace(held)

    unit_drive = rationally(sp.factor, -drive / dc).subs(rename) if filters else g
    return NormalForm(
        update=recorded,
        accumulators={update.old(n): _accumulator_map(update, n, accumulators) for n in accumulators},
        filters={update.old(n): _in_updated(update, composed[n], filters).subs(rename) for n in filters},
        outputs=outputs,
        P=finished(M / dc),
        gamma=finished(simplify(gamma)),
        drive=unit_drive.xreplace(held),
        transfer=finished(transfer),
        gains={update.old(n): gains[n].subs(rename) for n in filters},
        scales={update.old(n): c.subs(rename) for n, c in scales.items()},
        clocks=tuple(update.old(n) for n in clocks_of(update)),
        held=held,
        held_P=(M / dc).subs(rename),
        held_transfer=transfer.subs(rename),
        held_drive=unit_drive,
    )


def _hold_coefficients(update: Update) -> tuple[Update, dict[Quantity, sp.Expr]]:
    """The step of w with a symbol for each largest part that is made of updated clocks and hyperparameters, and what they stand for.

    A schedule enters the filter through its value in the step alone, so that nothing needs to be known of it but that.
    """
    clocks = {update.new(n) for n in clocks_of(update)}
    known, held = clocks | set(update.hyper.values()), dict[sp.Expr, Quantity]()

    def hold(expr: sp.Expr) -> sp.Expr:
        if not expr.free_symbols & clocks:
            return expr
        if expr.free_symbols <= known:
            sign, expr = expr.as_coeff_Mul()
            return sign * held.setdefault(expr, quantity(f"kappa_{len(held) + 1}", Shape.SCALAR))
        if isinstance(expr, sp.Mul | sp.Add):
            inside = [a for a in expr.args if a.free_symbols <= known]
            rest = [hold(a) for a in expr.args if not a.free_symbols <= known]
            return expr.func(hold(expr.func(*inside)), *rest)
        return expr.func(*map(hold, expr.args))

    equations = tuple(replace(e, expr=hold(e.expr)) if e.state == "w" else e for e in update.equations)
    return replace(update, equations=equations), {k: e for e, k in held.items()}


def classify(update: Update) -> tuple[list[str], list[str]]:
    """Find which states are filters and which accumulators.

    The filters are the set whose next values are linear in (filters, g) and depend on g, while the next value of every
    other state has zero derivative in (g, filters) at (g, filters) = 0.

    Args:
        update: the recorded step.

    Returns:
        The names of the filters and of the accumulators.

    Raises:
        RuleRefused: If no such set exists.
    """
    found = _search(update, update.rule.slow_preconditioner)
    if found is not None:
        return found
    if _search(update, frozen=True) is not None:
        raise RuleRefused(
            f"the rule {update.rule.name!r} filters a gradient that is already divided by a moving preconditioner: F and P do not commute; "
            "declare slow_preconditioner=True in @update_rule to accept that P moves slowly in the filter's memory, which a run then measures."
        )
    composed = _compose(update)
    culprit = next(n for n in update.states if not _fits(update, composed, n, ()))
    raise RuleRefused(
        f"{update.place(culprit)} is not in normal form: the next value of {culprit}, {composed[culprit]}, is neither linear in "
        "(filter states, g) nor free of a first derivative in them at 0, so it is neither a filter nor an accumulator."
    )


def _search(update: Update, frozen: bool) -> tuple[list[str], list[str]] | None:
    """The smallest set of states that are filters while all others are accumulators, these ``frozen`` or not."""
    names = list(update.states)
    for size in range(len(names) + 1):
        for chosen in combinations(names, size):
            composed = _compose(update, chosen if frozen else names)
            if all(_fits(update, composed, n, chosen) for n in names):
                return list(chosen), [n for n in names if n not in chosen]
    return None


def _fits(update: Update, composed: dict[str, sp.Expr], name: str, filters: tuple[str, ...]) -> bool:
    moved = [g, *(update.old(n) for n in filters)]
    probes = [_ALONG_G, *(quantity(f"d{n}", update.states[n].shape) for n in filters)]
    slope = directional(composed[name], dict(zip(moved, probes, strict=True)))
    if name not in filters:
        return is_zero(slope.xreplace(dict.fromkeys(moved, sp.S.Zero)))
    reaches = not is_zero(slope.subs(update.old(name), 0))
    return reaches and is_linear(composed[name], moved, probes)


def _refuse_nonsmooth(update: Update) -> None:
    for equation in update.equations:
        for term in equation.expr.atoms(*NONSMOOTH):
            if any(isinstance(s, Quantity) and s not in update.hyper.values() for s in term.free_symbols):
                raise RuleRefused(
                    f"the rule {update.rule.name!r}, line {equation.line}, is not differentiable: {term} in the update of {equation.state}; "
                    "a time average needs two derivatives, so use a smooth form such as g/sqrt(nu + eps**2), with nu a moving average of g**2."
                )


def _compose(update: Update, filters: Iterable[str] | None = None) -> dict[str, sp.Expr]:
    """Next value of every state in terms of old states and g; filters in updated accumulators, if filters are given.

    Raises:
        RuleRefused: If a state depends on w.
    """
    composed: dict[str, sp.Expr] = {}
    for equation in update.equations:
        if equation.state != "w":
            reads = filters if filters is not None and equation.state in filters else composed
            composed[equation.state] = equation.expr.xreplace({
                update.new(n): e for n, e in composed.items() if n in reads
            })
    for name, expr in composed.items():
        if w in expr.free_symbols:
            raise RuleRefused(
                f"{update.place(name)} lets {name} depend on w: states may depend on states and the gradient only."
            )
    return composed


def _accumulator_map(update: Update, name: str, accumulators: list[str]) -> sp.Expr:
    """f(a, g, m): updated accumulators are composed away, but for clocks; these and updated filters stay as symbols."""
    done = advanced(update)
    if update.new(name) in done:
        return done[update.new(name)]
    clocks = set(clocks_of(update))
    composed: dict[Quantity, sp.Expr] = {}
    for equation in update.equations:
        if equation.state in accumulators and equation.state not in clocks:
            composed[update.new(equation.state)] = equation.expr.xreplace(composed)
    return _after_clocks(update, composed[update.new(name)]).xreplace({update.new(n): update.old(n) for n in clocks})


def _after_clocks(update: Update, expr: sp.Expr) -> sp.Expr:
    """An expression in updated clocks.

    Raises:
        RuleRefused: If it reads a clock before the step that cannot be had from the updated one.
    """
    found = expr.xreplace(undone(update))
    for name in clocks_of(update):
        if found.has(update.old(name)):
            raise RuleRefused(
                f"the rule {update.rule.name!r} reads {name} before its update, which its updated value does not give back: assign s.{name} first and read it afterwards."
            )
    return found


def _gains(update: Update, filters: list[str], composed: dict[str, sp.Expr]) -> dict[str, sp.Expr]:
    """Transfer function from g to each updated filter state, accumulators frozen at their updated values."""
    if not filters:
        return {}
    old = [update.old(n) for n in filters]
    spectra = [sp.Symbol(f"Z_{n}") for n in filters]
    rows = [
        _freeze(update, composed[n], filters).xreplace({m: s / z for m, s in zip(old, spectra, strict=True)} | {g: 1})
        - s
        for n, s in zip(filters, spectra, strict=True)
    ]
    solution = sp.solve(rows, spectra, dict=True)[0]
    return {n: rationally(sp.factor, solution[s]) for n, s in zip(filters, spectra, strict=True)}


def _in_updated(update: Update, expr: sp.Expr, filters: list[str]) -> sp.Expr:
    """A filter's next value in updated accumulators."""
    return rationally(sp.factor, _freeze(update, expr, filters))


def _freeze(update: Update, expr: sp.Expr, filters: list[str]) -> sp.Expr:
    """An expression with accumulators held at their updated values: clocks before the step are one step behind."""
    moved = [n for n in update.states if n not in filters and n not in clocks_of(update)]
    return _after_clocks(update, expr).xreplace({update.old(n): update.new(n) for n in moved})


def _step_in_new_states(update: Update, filters: list[str]) -> sp.Expr:
    """w⁺ − w in updated accumulators, updated or old filters, g and w; refuses old accumulators.

    Raises:
        RuleRefused: If the step reads an old accumulator.
    """
    step = sp.expand(next(e.expr for e in update.equations if e.state == "w") - w)
    for name in update.states:
        if name not in filters and step.has(update.old(name)):
            raise RuleRefused(
                f"{update.place('w')} uses the old value of {name} in the step of w: assign s.{name} first, "
                "since the preconditioner must be a function of the updated accumulators."
            )
    return step


def _decay(update: Update, step: sp.Expr) -> sp.Expr:
    gamma = simplify(-sp.diff(step, w))
    if w in gamma.free_symbols or shape_of(gamma) > Shape.SCALAR or g in gamma.free_symbols:
        raise RuleRefused(
            f"{update.place('w')} is not in normal form: w enters its own step through {-gamma}, which must be one number −γ for all coordinates."
        )
    return gamma


def _why_nonlinear(drive: sp.Expr, moved: list[Quantity]) -> str:
    """Why no P serves the step; a step φ(g) of the present gradient alone answers an oscillation by φ′, its mean by φ/g."""
    if moved != [g] or drive.has(Reduction):
        return ": P may depend on accumulators only"
    slope, gain = (simplify(e) for e in (-sp.diff(drive, g), -drive / g))
    return (
        f": an oscillation of the gradient is met with the slope {slope}, its mean with the gain {gain}, so that no one P serves stability "
        "and the mean step; let P read a moving average of g**2"
    )


def _transfer(update: Update, drive: sp.Expr, filters: list[str], gains: dict[str, sp.Expr]) -> tuple[sp.Expr, sp.Expr]:
    """DC gain of the step from g (= P⁻¹) and the transfer function normalised to F(1) = 1.

    Raises:
        RuleRefused: If the step is not linear in the gradient and filters, or has no positive gain.
    """
    moved = [g, *(s(n) for n in filters for s in (update.old, update.new))]
    probes = [_ALONG_G, *(quantity(f"d{s.name}", s.shape) for s in moved[1:])]
    if not is_linear(drive, moved, probes):
        raise RuleRefused(
            f"{update.place('w')} is not in normal form: the step {simplify(drive)} is not linear in the gradient and the filter states"
            f"{_why_nonlinear(drive, moved)}."
        )
    if drive.atoms(sp.Function) and any(g in f.free_symbols for f in drive.atoms(sp.Function)):
        raise RuleRefused(
            f"{update.place('w')} is not in normal form: one coordinate's step reads a reduction of the gradient, {drive}."
        )
    signal = {g: 1} | {update.new(n): gains[n] for n in filters} | {update.old(n): gains[n] / z for n in filters}
    spectrum = -drive.xreplace(signal)
    dc = spectrum.subs(z, 1)
    dc = rationally(sp.factor, dc) if filters else dc / g if dc.has(g) else dc
    if is_zero(dc):
        raise RuleRefused(
            f"the rule {update.rule.name!r} takes no step along a constant gradient (DC gain 0): it has no preconditioner."
        )
    if dc.is_negative:
        raise RuleRefused(
            f"the rule {update.rule.name!r} steps up the gradient: its preconditioner {1 / dc} is negative; check the sign of the step."
        )
    transfer = rationally(lambda e: sp.factor(e / e.subs(z, 1)), spectrum)
    if shape_of(transfer) > Shape.SCALAR:
        raise RuleRefused(
            f"the rule {update.rule.name!r} is not in normal form: its filter {transfer} differs between coordinates; one F for all is required."
        )
    return dc, transfer
