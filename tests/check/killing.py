"""Whether the checks notice a planted error, and if not, whether anything derived has changed at all."""

from __future__ import annotations

import ast
import signal
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import sympy as sp

from derivations.check import Claim, Subject, all_claims, try_claim
from derivations.check.engine import FIRST
from tests.check.mutation import Mutant, mutated_rule, planted
from theory import Derivation, RuleRefused, derive
from theory.calculus import is_zero
from theory.rule import UpdateRule
from theory.symbols import z

SHARE = 0.5
"""Of the examples of `centralflow check` that are tried."""
LIMIT = 90
"""Seconds after which a mutant counts as hanging."""
# Hyperparameters at which derivations are asked whether a flip comes first.
NUMBERS = (0.0, 0.1, 0.4, 0.5, 0.7, 0.9)


@dataclass(frozen=True)
class Fate:
    """What became of a mutant: killed by a claim, caught while deriving (refused, own check, crash), equivalent, or survived."""

    mutant: Mutant
    outcome: str
    by: str = ""


class Expired(BaseException):
    """A mutant ran too long."""


@contextmanager
def limited(seconds: int) -> Generator[None]:
    """Interrupt what runs longer."""

    def expire(*_: Any) -> None:
        raise Expired

    previous = signal.signal(signal.SIGALRM, expire)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, previous)


Trust = Callable[[UpdateRule], tuple[Claim, ...]]
UNCHANGED = "all derived results are identical"
_BASELINES: dict[str, dict[str, Any]] = {}
_HOLDING: dict[str, tuple[Claim, ...]] = {}


def every_claim(rule: UpdateRule) -> tuple[Claim, ...]:
    """All claims, where they are known to hold for a rule."""
    return all_claims()


def claims_that_hold(rule: UpdateRule) -> tuple[Claim, ...]:
    """The claims that hold for a rule without any error planted; others cannot kill."""
    key = _key(rule)
    if key not in _HOLDING:
        d = derive(rule)
        subject = Subject(d, d.update)
        verdicts = [try_claim(claim, subject, share=SHARE) for claim in all_claims()]
        _HOLDING[key] = tuple(v.claim for v in verdicts if v.counterexample is None)
    return _HOLDING[key]


def baseline(rule: UpdateRule) -> dict[str, Any]:
    """Results of the unchanged symbolic layer."""
    key = _key(rule)
    if key not in _BASELINES:
        _BASELINES[key] = results(derive(rule))
    return _BASELINES[key]


def _key(rule: UpdateRule) -> str:
    return f"{rule.name} {rule.function.__module__}"


def fate_in_theory(
    module: ModuleType, mutant: Mutant, panel: Sequence[UpdateRule], trusted: Trust = claims_that_hold
) -> Fate:
    """Derive a panel of rules with the error planted in the symbolic layer."""
    changed: list[str] = []
    for rule in panel:
        expected, claims = baseline(rule), trusted(rule)
        with planted(module, mutant):
            found = _examine(rule, Original(rule, expected, claims), mutant, changed)
        if found is not None:
            return found
    return _unnoticed(mutant, changed)


def fate_in_rule(rule: UpdateRule, mutant: Mutant, trusted: Trust = claims_that_hold) -> Fate:
    """Derive the changed rule and check it against the optimizer of the original."""
    changed: list[str] = []
    original = Original(rule, baseline(rule), trusted(rule))
    return _examine(mutated_rule(rule, mutant), original, mutant, changed) or _unnoticed(mutant, changed)


def _unnoticed(mutant: Mutant, changed: list[str]) -> Fate:
    return Fate(mutant, "SURVIVED", "; ".join(changed[:4])) if changed else Fate(mutant, "equivalent", UNCHANGED)


@dataclass(frozen=True)
class Original:
    """A rule without error: its results, and the claims that hold for it."""

    rule: UpdateRule
    results: dict[str, Any]
    claims: tuple[Claim, ...]


def _examine(rule: UpdateRule, original: Original, mutant: Mutant, changed: list[str]) -> Fate | None:
    """The fate on one rule, or None if nothing that can be seen has changed there or no claim has noticed."""
    try:
        with limited(LIMIT):
            d = derive(rule)
            now = results(d)
            if now == original.results:
                return None
            killer = _killer(Subject(d, original.rule.record()), original.claims)
            differences = [] if killer else differing(original.results, now)
    except RuleRefused as refusal:
        return Fate(mutant, "caught", f"refused: {str(refusal)[:80]}")
    except AssertionError as error:
        return Fate(mutant, "caught", f"own check: {str(error)[:80]}")
    except Expired:
        return Fate(mutant, "caught", "hangs")
    except Exception as error:
        return Fate(mutant, "caught", f"crash: {type(error).__name__}")
    changed += [f"{rule.name}: {n}" for n in differences]
    return Fate(mutant, "killed", f"{rule.name}: {killer.reference} {killer.name}") if killer else None


def _killer(subject: Subject, claims: tuple[Claim, ...]) -> Claim | None:
    verdicts = (try_claim(claim, subject, share=SHARE, search=FIRST) for claim in claims)
    return next((v.claim for v in verdicts if v.counterexample is not None), None)


def differing(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """Names of results that are not symbolically identical."""
    return [n for n in before if n not in after or not _same(before[n], after[n])] + [
        n for n in after if n not in before
    ]


def _same(x: Any, y: Any) -> bool:
    if x == y:
        return True
    if isinstance(x, sp.Expr) and isinstance(y, sp.Expr):
        return is_zero(x - y)
    return False


def results(d: Derivation) -> dict[str, Any]:
    """Everything derived, by name: expressions, code, and at which numbers a flip is certified to come first."""
    form, stab, flow, closure = d.normal_form, d.stability, d.flow, d.complementarity
    found: dict[str, Any] = {
        "P": form.P,
        "gamma": form.gamma,
        "drive": form.drive,
        "F": form.transfer,
        "shape": form.shape,
    }
    found |= {"feedthrough": form.feedthrough, "lag": form.lag, "pole start": form.pole_start}
    found |= {"polynomial": sp.Poly(stab.polynomial, z).monic().as_expr(), "threshold": stab.threshold}
    found |= {f"condition {k}": c for k, c in enumerate(stab.conditions)}
    found |= {"w stable": flow.w_stable, "w X": flow.w_X, "w average": flow.w_average, "memory": flow.memory}
    found |= {f"jacobian {k}": e for k, e in enumerate(flow.jacobian)}
    found |= {
        "margin": closure.stable,
        "margin per X": closure.per_X,
        "one mode": closure.one_mode,
        "variance": closure.variance,
    }
    tables = {
        "filter": form.filters,
        "accumulator": form.accumulators,
        "gain": form.gains,
        "scale": form.scales,
        "output": form.outputs,
        "at 1": form.at_gain(1),
        "at -1": form.at_gain(-1),
        "mean": d.averages.mean,
        "oscillation": d.averages.oscillation,
        "cross": d.averages.cross,
        "settle": d.averages.settle,
        "rate": flow.a_stable,
        "rate X": flow.a_X,
        "rate cross": flow.a_cross,
        "central": d.central_flow,
        "stable": d.stable_flow,
        "edge": closure.at_edge,
    }
    for name, table in tables.items():
        found |= {f"{name} {s}": e for s, e in table.items()}
    # A proof that is lost is no error: the flip is then certified at numbers.
    failed = [claim for step in d.steps for claim, held in (step.checks or {}).items() if not held]
    return found | {
        "failed checks": failed,
        "code": functions_of(d.emitted.source),
        "reads filters": d.emitted.reads_filters,
        "certified": _certified(d),
    }


def functions_of(source: str) -> dict[str, str]:
    """What running emitted source defines, by name."""
    return {f.name: ast.unparse(f) for f in ast.parse(source).body if isinstance(f, ast.FunctionDef)}


def _certified(d: Derivation) -> tuple[bool, ...]:
    outcomes = []
    for x in NUMBERS:
        hyper = {n: x if h.domain.upper == 1 else 0.3 for n, h in d.rule.hyper.items()}
        try:
            d.certify(hyper)
            outcomes.append(True)
        except RuleRefused:
            outcomes.append(False)
    return tuple(outcomes)
