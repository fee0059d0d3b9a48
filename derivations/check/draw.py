"""Strategies: hyperparameters in their domains, states, gradients, curvatures; plain numbers that shrink to simple ones."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from hypothesis import assume
from hypothesis import strategies as st

from derivations.check.numbers import Array
from derivations.check.subject import Subject
from theory.declarations import Hyper, State
from theory.symbols import Shape

# For half-lines: sizes at which an offset matters against gradients of order one, and at which it does not.
SIZES = (1.0, 0.5, 0.1, 0.01, 0.001, 1e-8, 0.05, 0.3, 0.7, 2.0, 1.3)


def hyperparameters(subject: Subject, twentieths: tuple[int, int] = (1, 19)) -> st.SearchStrategy[dict[str, float]]:
    """A number in the domain of each hyperparameter.

    Args:
        subject: whose optimizer has them.
        twentieths: range within a bounded domain; the whole range includes its closed ends.

    Returns:
        Numbers by name.
    """
    declared = subject.update.rule.hyper
    return st.fixed_dictionaries({n: _in_domain(declared[n], *twentieths) for n in subject.update.hyper})


def _in_domain(h: Hyper, first: int, last: int) -> st.SearchStrategy[float]:
    lower, upper = float(h.domain.lower), float(h.domain.upper)
    if math.isinf(lower):
        return st.sampled_from([s if math.isinf(upper) else upper - s for s in (*SIZES, *(-x for x in SIZES))])
    if math.isinf(upper):
        ends = [] if h.domain.lower_open else [lower]
        return st.sampled_from([lower + s for s in SIZES] + ends)
    # Decays up to 0.95: beyond, what must be compared after many steps has not died out.
    inside = st.integers(first, last).map(lambda k: lower + (upper - lower) * k / 20)
    ends = [
        e
        for e, closed in ((lower, not h.domain.lower_open), (upper, not h.domain.upper_open))
        if closed and last - first == 18
    ]
    return inside | st.sampled_from(ends) if ends else inside


def vectors(n: int, count: int | None = None) -> st.SearchStrategy[Any]:
    """A vector of multiples of 1/8, or a list of them."""
    one = st.lists(st.integers(-24, 24), min_size=n, max_size=n).map(lambda x: np.array(x) / 8)
    return one if count is None else st.lists(one, min_size=count, max_size=count)


def nonzero(n: int, count: int | None = None) -> st.SearchStrategy[Any]:
    """A vector without zeros, or a list of them."""
    entry = st.integers(1, 24) | st.integers(-24, -1)
    one = st.lists(entry, min_size=n, max_size=n).map(lambda x: np.array(x) / 8)
    return one if count is None else st.lists(one, min_size=count, max_size=count)


def states(subject: Subject, *, first: int = 1) -> st.SearchStrategy[dict[str, Any]]:
    """Values of all states: in their domain, positive where that is half a line, and steps from ``first`` for a counter."""
    return st.fixed_dictionaries({n: _state(s, subject.layout.n, first) for n, s in subject.update.states.items()})


def _state(state: State, n: int, first: int) -> st.SearchStrategy[Any]:
    if state.counter:
        return st.integers(first, 60).map(float)
    if state.shape is Shape.MATRIX:
        return _squares(n)
    if state.domain is not None and not math.isinf(float(state.domain.upper)):
        lower, upper = float(state.domain.lower), float(state.domain.upper)
        entries = st.lists(st.integers(1, 19), min_size=n, max_size=n)
        return entries.map(lambda x: lower + (upper - lower) * np.array(x) / 20)
    if state.nonnegative:
        return st.lists(st.integers(1, 32), min_size=n, max_size=n).map(lambda x: np.array(x) / 8)
    return vectors(n)


def _squares(n: int) -> st.SearchStrategy[Array]:
    """A positive definite matrix with eigenvalues from 1/8 up."""
    entries = st.lists(st.integers(-8, 8), min_size=n * n, max_size=n * n)
    return entries.map(lambda x: _square(np.array(x).reshape(n, n) / 8))


def _square(M: Array) -> Array:
    return np.asarray(M @ M.T + np.eye(len(M)) / 8)


def shifts(subject: Subject) -> st.SearchStrategy[dict[str, Any]]:
    """A direction for each accumulator: a vector, or a symmetric matrix."""
    n, states = subject.layout.n, subject.update.states
    square = vectors(n * n).map(lambda x: (x.reshape(n, n) + x.reshape(n, n).T) / 2)
    return st.fixed_dictionaries({
        a: square if states[a].shape is Shape.MATRIX else vectors(n) for a in subject.accumulators
    })


def bases(n: int) -> st.SearchStrategy[Array]:
    """An orthogonal matrix."""
    entries = st.lists(st.integers(-8, 8), min_size=n * n, max_size=n * n)
    return entries.map(lambda x: _orthogonal(np.array(x, dtype=float).reshape(n, n)))


def _orthogonal(matrix: Array) -> Array:
    Q: Array = np.linalg.qr(matrix + 9 * np.eye(len(matrix)))[0]
    return Q


def cubics(n: int) -> st.SearchStrategy[Array]:
    """A symmetric third derivative, (n, n, n)."""
    entries = st.lists(st.integers(-8, 8), min_size=n**3, max_size=n**3)
    return entries.map(lambda x: _symmetric(np.array(x).reshape(n, n, n) / 8))


def _symmetric(C: Array) -> Array:
    orders = ((0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0))
    return np.asarray(sum(C.transpose(o) for o in orders) / 6)


def fractions(count: int) -> st.SearchStrategy[list[float]]:
    """Numbers in (0, 0.9)."""
    return st.lists(st.integers(1, 18).map(lambda k: k / 20), min_size=count, max_size=count)


def require(condition: Any) -> None:
    """Discard an example that is outside a claim's reach."""
    assume(bool(condition))
