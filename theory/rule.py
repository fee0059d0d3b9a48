r"""Declare an update rule once, as in a paper's algorithm box; everything else is derived from it.

    @update_rule(lr=hyper("(0, oo)"), beta2=hyper("[0, 1)", default=0.99), nu=per_parameter())
    def rms(s):
        s.nu = s.beta2 * s.nu + (1 - s.beta2) * s.g**2
        s.w = s.w - s.lr * s.g / sqrt(s.nu)

Assigning to a state records an equation; reading the state afterwards gives its updated value. The function runs on
SymPy symbols, once per set of options, and never on numbers.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import FrameType
from typing import Any

import sympy as sp

from theory.declarations import Hyper, Option, State, counter
from theory.errors import RuleRefused
from theory.matrices import refuse_entrywise
from theory.symbols import CATALOGUE, Quantity, Shape, g, shape_of, w

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
