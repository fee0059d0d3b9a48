"""Try every claim on numbers that Hypothesis draws, and keep the smallest counterexample."""

from __future__ import annotations

import importlib
import pkgutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as seeded
from hypothesis.errors import HypothesisException

from derivations.check import claims as package
from derivations.check.claim import Claim, Evidence, Refuted
from derivations.check.subject import Subject

Outcome = str
SMALLEST = (Phase.generate, Phase.shrink)
"""Look for a counterexample, then for the smallest."""
FIRST = (Phase.generate,)
"""Stop at the first."""
HELD, FAILED, NOTHING = "yes", "NO", "-"


@dataclass(frozen=True)
class Counterexample:
    """Where a claim fails: what differs, both values, and the numbers put in."""

    what: str
    derived: Any
    measured: Any
    sample: dict[str, Any]


@dataclass(frozen=True)
class Verdict:
    """What became of a claim: held, failed, or nothing to test; evidence over all examples."""

    claim: Claim
    outcome: Outcome
    examples: int
    error: float
    order: float | None
    seconds: float
    note: str = ""
    counterexample: Counterexample | None = None


@cache
def all_claims() -> tuple[Claim, ...]:
    """Every claim in `derivations.check.claims`, in the order of THEORY; adding one means adding a file."""
    names = [m.name for m in pkgutil.iter_modules(package.__path__)]
    modules = [importlib.import_module(f"{package.__name__}.{name}") for name in names]
    found = [module.CLAIM for module in modules]
    return tuple(sorted(found, key=lambda claim: (claim.section, claim.name)))


def judge(subject: Subject, seed: int = 0, share: float = 1.0) -> Iterator[Verdict]:
    """Yield the verdict on each claim in turn.

    Args:
        subject: what is checked.
        seed: of the numbers drawn.
        share: of each claim's examples that is tried.

    Yields:
        One verdict per claim.
    """
    for claim in all_claims():
        yield try_claim(claim, subject, seed, share)


def try_claim(
    claim: Claim, subject: Subject, seed: int = 0, share: float = 1.0, search: tuple[Phase, ...] = SMALLEST
) -> Verdict:
    """Try one claim.

    Args:
        claim: to try.
        subject: what is checked.
        seed: of the numbers drawn.
        share: of the claim's examples that is tried.
        search: for the smallest counterexample, or for the first.

    Returns:
        The verdict; a crash counts as a counterexample.
    """
    began = time.perf_counter()
    reason = claim.missing(subject)
    if reason is not None:
        return Verdict(claim, NOTHING, 0, 0.0, None, time.perf_counter() - began, reason)
    evidence: list[Evidence] = []
    found = _search(claim, subject, evidence, seed, max(1, round(claim.examples * share)), search)
    if found is None and not evidence:
        found = Counterexample("no admissible example was found", "none", "at least one", {})
    orders = [e.order for e in evidence if e.order is not None]
    return Verdict(
        claim,
        HELD if found is None else FAILED,
        len(evidence),
        max((e.error for e in evidence), default=0.0),
        min(orders) if orders else None,
        time.perf_counter() - began,
        counterexample=found,
    )


def _search(
    claim: Claim, subject: Subject, evidence: list[Evidence], seed: int, examples: int, search: tuple[Phase, ...]
) -> Counterexample | None:
    last: dict[str, Any] = {}

    @seeded(seed)
    @settings(
        max_examples=examples,
        database=None,
        deadline=None,
        phases=search,
        suppress_health_check=list(HealthCheck),
        report_multiple_bugs=False,
    )
    @given(claim.inputs(subject))
    def trial(sample: dict[str, Any]) -> None:
        last.clear()
        last.update(sample)
        evidence.append(claim.holds(subject, sample))

    try:
        with np.errstate(all="ignore"):
            trial()
    except Refuted as refuted:
        return Counterexample(refuted.what, refuted.derived, refuted.measured, dict(last))
    except HypothesisException:
        return None  # every example was discarded, which the caller sees from the evidence
    except Exception as error:
        return Counterexample(
            "the claim cannot be evaluated", f"{type(error).__name__}: {error}", "numbers", dict(last)
        )
    return None
