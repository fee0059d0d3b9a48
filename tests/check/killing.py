"""Whether the checks notice a planted error, and if not, whether anything derived has changed at all."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from types import ModuleType
from typing import Any

from derivations.check import Claim, Subject, all_claims, try_claim
from derivations.check.engine import FIRST
from tests.check.derived import FORM, differing, results, same
from tests.check.mutation import Mutant, mutated_rule, planted
from theory import RuleRefused, derive
from theory.rule import UpdateRule

SHARE = 0.5
"""Of the examples of `centralflow check` that are tried."""
LIMIT = 90
"""Seconds after which a mutant counts as hanging."""


@dataclass(frozen=True)
class Fate:
    """What became of a mutant: killed by a claim, caught while deriving (refused, own check, crash), equivalent, restated, or survived."""

    mutant: Mutant
    outcome: str
    by: str = ""


class Expired(Exception):
    """A mutant ran too long."""


class HarnessFailed(Exception):
    """The child failed outside of what is known to happen to a mutant: no fate of it."""


def limited(make: Callable[[], Any], seconds: float) -> Any:
    """What a function returns, run in a child process that is killed if it runs longer: nothing else stops every endless loop.

    Raises:
        Expired: If it did, or if a signal ended the child, as where memory ran out.
        HarnessFailed: If the function raised or left the child, or what it returned cannot be sent.
    """
    context = multiprocessing.get_context("fork")
    receiving, sending = context.Pipe(duplex=False)
    child = context.Process(target=lambda: _answer(sending, make), daemon=True)
    child.start()
    sending.close()
    try:
        if not receiving.poll(seconds):
            raise Expired
        status, value = receiving.recv()
    except EOFError:
        child.join()
        if child.exitcode >= 0:
            raise HarnessFailed(f"the child ended with status {child.exitcode}") from None
        raise Expired from None
    finally:
        child.kill()
        child.join()
    if status == "error":
        raise HarnessFailed(value)
    return value


def _answer(sending: Connection, make: Callable[[], Any]) -> None:
    """Send ("value", what the function returns), or ("error", what it raised)."""
    try:
        sending.send(("value", make()))
    except Exception as error:
        sending.send(("error", repr(error)))


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
    changed = Changes()
    for rule in panel:
        expected, claims = baseline(rule), trusted(rule)
        with planted(module, mutant):
            found = _examine(rule, Original(rule, expected, claims), mutant, changed)
        if found is not None:
            return found
    return _unnoticed(mutant, changed)


def fate_in_rule(rule: UpdateRule, mutant: Mutant, trusted: Trust = claims_that_hold) -> Fate:
    """Derive the changed rule and check it against the optimizer of the original."""
    changed = Changes()
    original = Original(rule, baseline(rule), trusted(rule))
    return _examine(mutated_rule(rule, mutant), original, mutant, changed) or _unnoticed(mutant, changed)


@dataclass
class Changes:
    """What no claim has noticed: results that differ, and rules where the same is written in another form."""

    results: list[str] = field(default_factory=list)
    forms: list[str] = field(default_factory=list)


def _unnoticed(mutant: Mutant, changed: Changes) -> Fate:
    if changed.results:
        return Fate(mutant, "SURVIVED", "; ".join(changed.results[:4]))
    if changed.forms:
        return Fate(mutant, "restated", f"only the form differs: {', '.join(changed.forms)}")
    return Fate(mutant, "equivalent", UNCHANGED)


@dataclass(frozen=True)
class Original:
    """A rule without error: its results, and the claims that hold for it."""

    rule: UpdateRule
    results: dict[str, Any]
    claims: tuple[Claim, ...]


def _examine(rule: UpdateRule, original: Original, mutant: Mutant, changed: Changes) -> Fate | None:
    """The fate on one rule, or None if nothing that can be seen has changed there or no claim has noticed."""
    try:
        fate, seen = limited(lambda: _derived(rule, original, mutant), LIMIT)
    except Expired:
        return Fate(mutant, "caught", "hangs")
    changed.results += seen.results
    changed.forms += seen.forms
    return fate


def _derived(rule: UpdateRule, original: Original, mutant: Mutant) -> tuple[Fate | None, Changes]:
    """The fate on one rule if it is known, and what has changed without notice."""
    seen = Changes()
    try:
        d = derive(rule)
        now = results(d)
        if same(original.results, now):
            seen.forms += [rule.name] * (original.results[FORM] != now[FORM])
            return None, seen
        killer = _killer(Subject(d, original.rule.record()), original.claims)
        if killer:
            return Fate(mutant, "killed", f"{rule.name}: {killer.reference} {killer.name}"), seen
        seen.results += [f"{rule.name}: {n}" for n in differing(original.results, now)]
    except RuleRefused as refusal:
        return Fate(mutant, "caught", f"refused: {str(refusal)[:80]}"), seen
    except AssertionError as error:
        return Fate(mutant, "caught", f"own check: {str(error)[:80]}"), seen
    except Exception as error:
        return Fate(mutant, "caught", f"crash: {type(error).__name__}"), seen
    return None, seen


def _killer(subject: Subject, claims: tuple[Claim, ...]) -> Claim | None:
    verdicts = (try_claim(claim, subject, share=SHARE, search=FIRST) for claim in claims)
    return next((v.claim for v in verdicts if v.counterexample is not None), None)
