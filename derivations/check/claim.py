"""What a claim is: a statement of THEORY, numbers to try it on, and a comparison of what was derived with what is measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
from hypothesis import assume
from hypothesis.strategies import SearchStrategy

from derivations.check.numbers import Array

if TYPE_CHECKING:
    from derivations.check.subject import Subject

Sample = Mapping[str, Any]
EXACT = 1e-8
"""Relative difference of two float64 computations of one number that counts as round-off."""


@dataclass(frozen=True)
class Evidence:
    """What one example showed: the worst relative error, and the order of an error term where one was measured."""

    error: float = 0.0
    order: float | None = None


@dataclass(frozen=True)
class Claim:
    """A derived claim: its statement and place in THEORY, how to draw numbers for it, and the comparison.

    ``holds`` returns its evidence or raises `Refuted`; ``missing`` says why a rule has nothing to test, or returns None.
    """

    name: str
    reference: str
    section: int
    inputs: Callable[[Subject], SearchStrategy[dict[str, Any]]]
    holds: Callable[[Subject, Sample], Evidence]
    examples: int = 40
    missing: Callable[[Subject], str | None] = lambda subject: None


class Refuted(Exception):
    """A claim is false at the numbers at hand: what differs, and both values."""

    def __init__(self, what: str, derived: Any, measured: Any) -> None:
        super().__init__(what)
        self.what, self.derived, self.measured = what, derived, measured


def refute(what: str, derived: Any, measured: Any) -> NoReturn:
    """Say that a claim is false.

    Raises:
        Refuted: always.
    """
    raise Refuted(what, derived, measured)


def agree(what: str, derived: Any, measured: Any, tolerance: float = EXACT, scale: float = 0.0) -> float:
    """Compare a derived value with a measured one.

    Args:
        what: is compared, for the message.
        derived: from the derivation.
        measured: independently of it; an example where this is not finite is discarded.
        tolerance: largest relative error.
        scale: of the numbers that were subtracted to measure; the error is relative to it or to the values, if larger.

    Returns:
        The relative error.

    Raises:
        Refuted: If they differ.
    """
    derived, measured = np.asarray(derived), np.asarray(measured)
    assume(bool(np.isfinite(measured).all()))
    if not np.isfinite(derived).all():
        raise Refuted(what, derived, measured)
    size = max(scale, float(np.abs(measured).max(initial=0.0)), float(np.abs(derived).max(initial=0.0)))
    error = float(np.abs(derived - measured).max(initial=0.0)) / size if size > 0 else 0.0
    if error > tolerance:
        raise Refuted(what, derived, measured)
    return error


def agree_to_order(what: str, derived: list[Array], measured: list[Array], order: float, floor: float) -> Evidence:
    """Compare values at sizes 1, ½, ¼ of a small parameter whose error must fall with the given order, or be round-off.

    Args:
        what: is compared, for the message.
        derived: from the derivation, one per size.
        measured: independently of it.
        order: that THEORY states.
        floor: error that counts as round-off.

    Returns:
        The error at the smallest size, and the measured order if there is one.

    Raises:
        Refuted: If the error does not fall as it must.
    """
    errors = [float(np.abs(d - m).max()) for d, m in zip(derived, measured, strict=True)]
    assume(all(np.isfinite(m).all() for m in measured))
    if not np.isfinite(errors).all():
        raise Refuted(what, derived[-1], measured[-1])
    if errors[-1] <= floor:
        return Evidence(errors[-1])
    slope = float(np.log2(errors[-2] / errors[-1]))
    if slope < order - 0.5:
        raise Refuted(f"{what}: its error falls with order {slope:.2f} instead of {order:g}", derived[-1], measured[-1])
    return Evidence(errors[-1], slope)
