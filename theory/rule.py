r"""Declare an update rule once, as in a paper's algorithm box; everything else is derived from it.

    @update_rule(lr=hyper("(0, oo)"), beta2=hyper("[0, 1)", default=0.99), nu=per_parameter())
    def rms(s):
        s.nu = s.beta2 * s.nu + (1 - s.beta2) * s.g**2
        s.w = s.w - s.lr * s.g / sqrt(s.nu)

Assigning to a state records an equation; reading the state afterwards gives its updated value. The function runs on
SymPy symbols, once per set of options, and never on numbers.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import FrameType
from typing import Any

import sympy as sp

from theory.errors import RuleRefused
from theory.matrix import Eye, MatrixSqrt, Outer, Solve, refuse_entrywise
from theory.symbols import CATALOGUE, BlockTotal, Quantity, Shape, Total, g, hyper_symbol, quantity, shape_of, w

RESERVED = {"w": "the parameters", "g": "the gradient"}
# Names in the catalogue that rules are meant to use.
FREE = (
    "lr",
    "beta",
    "beta1",
    "beta2",
    "momentum",
    "eps",
    "weight_decay",
    "nu",
    "V",
    "m",
    "t",
    "mu_product",
    "momentum_decay",
)


@dataclass(frozen=True)
class Interval:
    """Domain of a hyperparameter, such as [0, 1)."""

    lower: sp.Expr
    upper: sp.Expr
    lower_open: bool
    upper_open: bool

    @classmethod
    def parse(cls, text: str) -> Interval:
        """Read ``"(0, oo)"`` or ``"[0, 1)"``.

        Raises:
            RuleRefused: If the text is no interval.
        """
        match = re.fullmatch(r"\s*([\[(])([^,]+),([^,]+)([\])])\s*", text)
        if match is None:
            raise RuleRefused(f'a domain must be an interval such as "(0, oo)" or "[0, 1)", got {text!r}.')
        opening, lower, upper, closing = match.groups()
        return cls(sp.sympify(lower), sp.sympify(upper), opening == "(", closing == ")")

    def __contains__(self, value: float) -> bool:
        if value != value:  # NaN is in no interval
            return False
        above = value > self.lower if self.lower_open else value >= self.lower
        below = value < self.upper if self.upper_open else value <= self.upper
        return bool(above) and bool(below)

    def __str__(self) -> str:
        opening, closing = "(" if self.lower_open else "[", ")" if self.upper_open else "]"
        upper = "∞" if self.upper == sp.oo else str(self.upper)
        return f"{opening}{self.lower}, {upper}{closing}"


@dataclass(frozen=True)
class Hyper:
    """A hyperparameter: its domain, and its default (None: the user must give it)."""

    domain: Interval
    default: float | None = None

    def symbol(self, code: str) -> Quantity:
        """Its SymPy symbol, positive or nonnegative where the domain says so."""
        at_least_zero = bool(self.domain.lower >= 0)
        return hyper_symbol(code, positive=at_least_zero and self.domain.lower_open, nonnegative=at_least_zero)


@dataclass(frozen=True)
class State:
    """A state variable: its shape, its value before the first step, and what is known of its sign."""

    shape: Shape
    initial: float = 0.0
    nonnegative: bool = False
    counter: bool = False
    domain: Interval | None = None

    def symbol(self, code: str) -> Quantity:
        """Its SymPy symbol."""
        positive = self.counter or (self.domain is not None and self.domain.lower_open and bool(self.domain.lower >= 0))
        signed = self.nonnegative and self.shape is not Shape.MATRIX  # entries of a matrix ⪰ 0 have no sign
        sign = {"positive": True} if positive else {"nonnegative": True} if signed else {}
        return quantity(code, self.shape, **sign)


@dataclass(frozen=True)
class Option:
    """A structural switch of the rule, on or off, such as bias correction."""

    default: bool


def hyper(domain: str, default: float | None = None) -> Hyper:
    """Declare a hyperparameter with its domain; symbols are positive or nonnegative where the domain says so."""
    return Hyper(Interval.parse(domain), default)


def per_parameter(initial: float = 0.0, *, nonnegative: bool = False) -> State:
    """Declare a state with one number per parameter."""
    return State(Shape.PARAMETER, initial, nonnegative)


def per_block(initial: float = 0.0, *, nonnegative: bool = False) -> State:
    """Declare a state with one number per parameter tensor."""
    return State(Shape.BLOCK, initial, nonnegative)


def scalar(initial: float = 0.0, *, nonnegative: bool = False, domain: str | None = None) -> State:
    """Declare a state that is one number; a domain such as "(0, 1]" says where it stays, which proofs of signs may use."""
    within = None if domain is None else Interval.parse(domain)
    return State(Shape.SCALAR, initial, nonnegative or bool(within and within.lower >= 0), domain=within)


def matrix(initial: float = 0.0, *, nonnegative: bool = False) -> State:
    """Declare a state that is a symmetric matrix in R^(n×n), ``initial`` times the identity; nonnegative means ⪰ 0."""
    return State(Shape.MATRIX, initial, nonnegative)


def counter() -> State:
    """Declare the step counter: 0 before the first step."""
    return State(Shape.SCALAR, counter=True)


def option(default: bool = False) -> Option:
    """Declare a structural switch."""
    return Option(default)


def total(x: sp.Expr) -> sp.Expr:
    r"""Sum over all parameters."""
    return Total(x)


def norm2(x: sp.Expr) -> sp.Expr:
    r"""‖x‖² over all parameters."""
    return Total(x**2)


class MatrixSign(sp.Function):
    """The orthogonal factor of a matrix's polar decomposition: UVᵀ of its singular value decomposition USVᵀ."""


def matrix_sign(x: sp.Expr) -> sp.Expr:
    """The orthogonal factor UVᵀ of a parameter matrix USVᵀ; not differentiable where a singular value vanishes."""
    return MatrixSign(x)


def outer(x: sp.Expr) -> sp.Expr:
    r"""The matrix xxᵀ over all parameters."""
    return Outer(x, x)


def identity() -> sp.Expr:
    """The identity matrix over all parameters."""
    return Eye()


def matrix_sqrt(M: sp.Expr) -> sp.Expr:
    """The root √M ⪰ 0 of a matrix M ⪰ 0."""
    return MatrixSqrt(M)


def solve(M: sp.Expr, x: sp.Expr) -> sp.Expr:
    """The vector M⁻¹x, for a matrix M ≻ 0."""
    return Solve(M, x)


def block_norm2(x: sp.Expr) -> sp.Expr:
    r"""‖x‖² over the parameter tensor to which the coordinate belongs."""
    return BlockTotal(x**2)


def mean(x: sp.Expr) -> sp.Expr:
    """Average over all parameters."""
    return Total(x) / Total(sp.S.One)


def block_mean(x: sp.Expr) -> sp.Expr:
    """Average over the parameter tensor to which the coordinate belongs."""
    return BlockTotal(x) / BlockTotal(sp.S.One)


@dataclass(frozen=True)
class Equation:
    """One recorded assignment: state ← expr, in terms of old states, updated states, g, w and hyperparameters."""

    state: str
    expr: sp.Expr
    line: int


@dataclass(frozen=True)
class Update:
    """What one step of a rule does, recorded: the assignments in order, and the symbols they use."""

    rule: UpdateRule
    equations: tuple[Equation, ...]
    hyper: dict[str, Quantity]
    states: dict[str, State]
    schedules: dict[str, sp.Expr]

    def old(self, name: str) -> Quantity:
        """Symbol of a state before the step."""
        return self.states[name].symbol(name)

    def new(self, name: str) -> Quantity:
        """Symbol of a state after the step."""
        return self.states[name].symbol(f"{name}_next")

    def place(self, name: str) -> str:
        """Rule and line of the assignment to a state or to w, for a message."""
        line = next((e.line for e in self.equations if e.state == name), 0)
        return f"the rule {self.rule.name!r}" + (f", line {line}," if line else "")


class _Recorder:
    """What the user's function sees as ``s``: reads give symbols, assignments are recorded in order."""

    def __init__(self, rule: UpdateRule, options: dict[str, bool], schedules: dict[str, sp.Expr]) -> None:
        self.__dict__["_rule"] = rule
        self.__dict__["_schedules"] = schedules
        self.__dict__["_equations"] = {}
        self.__dict__["_values"] = {"w": w, "g": g} | options
        self._values.update({n: p.symbol(n) for n, p in rule.hyper.items() if n not in schedules})
        self._values.update({n: p.symbol(n) for n, p in rule.states.items()})
        for name in schedules:
            self._values[name] = schedules[name]

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if name not in self._values:
            known = ", ".join(sorted(self._values))
            raise RuleRefused(
                f"{_place(self._rule)} reads s.{name}, which is not declared: declare it in @update_rule, or use one of {known}."
            )
        return self._values[name]

    def __setattr__(self, name: str, value: Any) -> None:
        place = _place(self._rule)
        if name not in self._rule.states and name != "w":
            what = (
                "a hyperparameter"
                if name in self._rule.hyper
                else "the gradient"
                if name == "g"
                else "not a declared state"
            )
            raise RuleRefused(
                f"{place} assigns s.{name}, which is {what}: assign only w and the declared states, and use a local variable for the rest."
            )
        if name in self._equations:
            raise RuleRefused(
                f"{place} assigns s.{name} twice in one step: use a local variable for the intermediate value."
            )
        expr = _as_expression(value, place, name)
        self._refuse_foreign(expr, place, name)
        shape = Shape.PARAMETER if name == "w" else self._rule.states[name].shape
        if shape_of(expr) > shape:
            raise RuleRefused(
                f"{place} assigns one number per {shape_of(expr).name.lower()} to s.{name}, which has one per {shape.name.lower()}: "
                "reduce it with total, norm2, mean or their block_ forms."
            )
        refuse_entrywise(expr, place)
        if shape is Shape.MATRIX and shape_of(expr) is not shape:
            raise RuleRefused(f"{place} assigns {expr} to s.{name}, which is a matrix: use outer or identity.")
        self._equations[name] = Equation(name, expr, _caller_line(2))
        if name != "w":
            self._values[name] = self._rule.states[name].symbol(f"{name}_next")

    def _refuse_foreign(self, expr: sp.Expr, place: str, name: str) -> None:
        """Refuse what is no number, and symbols that are neither declared nor recorded.

        Raises:
            RuleRefused: If there is such a thing in the assigned expression.
        """
        if expr.has(sp.nan, sp.zoo, sp.oo, -sp.oo):
            raise RuleRefused(f"{place} assigns {expr} to s.{name}, which is no number: look for a division by zero.")
        known = {s for v in self._values.values() if isinstance(v, sp.Basic) for s in v.free_symbols}
        known |= {p.symbol(n) for n, p in self._rule.states.items()}
        foreign = sorted(str(s) for s in expr.free_symbols - known)
        if foreign:
            raise RuleRefused(
                f"{place} assigns s.{name} with the symbol {foreign[0]}, which is not declared: declare it with hyper() in @update_rule."
            )


def _as_expression(value: Any, place: str, name: str) -> sp.Expr:
    try:
        return sp.sympify(value, strict=True)
    except sp.SympifyError:
        raise RuleRefused(
            f"{place} assigns {type(value).__name__} to s.{name}: it must be an expression in s.w, s.g, the states and the hyperparameters."
        ) from None


def _caller_line(depth: int) -> int:
    return sys._getframe(depth).f_lineno


def _place(rule: UpdateRule) -> str:
    """Where the user's function is now: rule name and line."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code is not rule.function.__code__:
        frame = frame.f_back
    line = f", line {frame.f_lineno}" if frame is not None else ""
    return f"the rule {rule.name!r}{line}"


@dataclass(frozen=True)
class UpdateRule:
    """An optimizer, declared once: hyperparameters, states, options and the function that makes one step."""

    name: str
    function: Callable[[Any], None]
    hyper: dict[str, Hyper]
    states: dict[str, State]
    options: dict[str, Option]
    doc: str = ""
    published: Callable[[Any], Mapping[str, tuple[sp.Expr, sp.Expr]]] | None = field(default=None, compare=False)
    references: tuple[str, ...] = ()
    slow_preconditioner: bool = False
    refused: str | None = None

    def record(self, **choices: Any) -> Update:
        """Run the function on symbols and return the recorded step.

        Args:
            **choices: options (bool), and schedules: hyperparameters given as an expression, or text, in the step counter t,
                which is 1 in the first step.

        Returns:
            The assignments in order, with the symbols they use.

        Raises:
            RuleRefused: If the function does what a rule cannot do; the sentence names the line.
        """
        options = {n: o.default for n, o in self.options.items()} | {
            n: v for n, v in choices.items() if n in self.options
        }
        rule, schedules = self._scheduled({n: v for n, v in choices.items() if n not in self.options})
        recorder = _Recorder(rule, options, schedules)
        try:
            rule.function(recorder)
        except RuleRefused:
            raise
        except Exception as error:
            if "subscriptable" in str(error) or "item assignment" in str(error):
                raise RuleRefused(
                    f"{self._failing_line()} picks single entries, but each symbol stands for every coordinate: combine coordinates with "
                    "total, norm2, mean or their block_ forms, and assign whole states."
                ) from None
            raise RuleRefused(
                f"{self._failing_line()} cannot be evaluated on symbols ({error}): branches on values, math.* and numpy functions do not fit; use theory's sqrt, exp, log."
            ) from None
        equations = dict(recorder._equations)
        missing = [n for n in ("w", *self.states) if n not in equations]
        if missing:
            raise RuleRefused(
                f"the rule {self.name!r} never assigns s.{missing[0]}: every state and w need one assignment per step."
            )
        if rule is not self:
            t = rule.states["t"].symbol("t")
            equations = {"t": Equation("t", t + 1, 0)} | equations
        hypers = {n: p.symbol(n) for n, p in self.hyper.items() if n not in schedules}
        return Update(self, tuple(equations.values()), hypers, rule.states, schedules)

    def _scheduled(self, choices: dict[str, Any]) -> tuple[UpdateRule, dict[str, sp.Expr]]:
        unknown = [n for n in choices if n not in self.hyper]
        if unknown:
            known = ", ".join([*self.hyper, *self.options])
            raise RuleRefused(f"the rule {self.name!r} has no hyperparameter or option {unknown[0]!r}: it has {known}.")
        if not choices:
            return self, {}
        counters = [n for n, s in self.states.items() if s.counter]
        rule = self if counters else replace(self, states={"t": counter()} | self.states)
        t = rule.states[counters[0] if counters else "t"].symbol(f"{counters[0] if counters else 't'}_next")
        return rule, {n: parse_schedule(v, t, n) for n, v in choices.items()}

    def _failing_line(self) -> str:
        traceback, line = sys.exc_info()[2], None
        while traceback is not None:
            if traceback.tb_frame.f_code is self.function.__code__:
                line = traceback.tb_lineno
            traceback = traceback.tb_next
        return f"the rule {self.name!r}" + (f", line {line}," if line else "")

    def with_published(self, function: Callable[[Any], Any]) -> Callable[[Any], Any]:
        """Attach published results to hold the derivation against: a function of the Derivation."""
        object.__setattr__(self, "published", function)
        return function


def parse_schedule(value: Any, t: Quantity, name: str) -> sp.Expr:
    """A schedule as an expression in the step counter.

    Args:
        value: text such as ``"0.02*exp(-t/100)"``, a SymPy expression in a symbol named t, or a function of t.
        t: the updated counter of the rule.
        name: of the hyperparameter, for the message.

    Returns:
        The expression, in the rule's own counter.

    Raises:
        RuleRefused: If it cannot be read, or contains another symbol than t.
    """
    plain = sp.Symbol("t")
    try:
        expr = value(plain) if callable(value) and not isinstance(value, sp.Basic) else sp.sympify(value)
        expr = sp.nsimplify(sp.sympify(expr), rational=True)
    except (sp.SympifyError, TypeError, SyntaxError, AttributeError) as error:
        raise RuleRefused(
            f'the schedule of {name} must be an expression in t such as "0.02*exp(-t/100)", got {value!r} ({error}).'
        ) from None
    expr = expr.subs({s: t for s in expr.free_symbols if s.name == "t"})
    if expr.free_symbols - {t}:
        other = ", ".join(sorted(s.name for s in expr.free_symbols - {t}))
        raise RuleRefused(f"the schedule of {name} may contain only t, got {other} in {value!r}.")
    return expr


def update_rule(
    *,
    name: str | None = None,
    references: tuple[str, ...] = (),
    slow_preconditioner: bool = False,
    refused: str | None = None,
    **declared: Hyper | State | Option,
) -> Callable[[Callable[[Any], None]], UpdateRule]:
    """Turn a function of ``s`` into an UpdateRule; keyword arguments declare hyperparameters, states and options.

    Args:
        name: of the rule; the function's name if not given.
        references: literature, in full.
        slow_preconditioner: accept that a filter acts on the preconditioned gradient, as if P did not move in its memory.
        refused: words of the sentence with which the theory refuses the rule, for a rule that is kept as an example of that.
        **declared: hyper(...), per_parameter(), per_block(), scalar(), matrix(), counter() or option() by name.

    Returns:
        The decorator.

    Raises:
        RuleRefused: If a name is reserved or a declaration is of no known kind.
    """
    for key, value in declared.items():
        if key in RESERVED:
            raise RuleRefused(
                f"{key!r} is reserved for {RESERVED[key]}: declare the state or hyperparameter under another name."
            )
        if key in CATALOGUE and key not in FREE:
            raise RuleRefused(f"{key!r} stands for {CATALOGUE[key].meaning}: declare it under another name.")
        if not isinstance(value, Hyper | State | Option):
            raise RuleRefused(
                f"{key!r} must be declared with hyper(), per_parameter(), per_block(), scalar(), matrix(), counter() or option(), got {value!r}."
            )

    def decorate(function: Callable[[Any], None]) -> UpdateRule:
        hypers = {k: v for k, v in declared.items() if isinstance(v, Hyper)}
        states = {k: v for k, v in declared.items() if isinstance(v, State)}
        options = {k: v for k, v in declared.items() if isinstance(v, Option)}
        return UpdateRule(
            name or function.__name__,
            function,
            hypers,
            states,
            options,
            (function.__doc__ or "").strip(),
            references=references,
            slow_preconditioner=slow_preconditioner,
            refused=refused,
        )

    return decorate
