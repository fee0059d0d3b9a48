"""What a rule declares: hyperparameters with their domains, states with their shapes, and switches."""

from __future__ import annotations

import re
from dataclasses import dataclass

import sympy as sp

from theory.errors import RuleRefused
from theory.symbols import Quantity, Shape, hyper_symbol, quantity


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
