"""Every derived claim holds for the installed rules, and a false one is reported with a counterexample."""

from dataclasses import replace

import pytest

from derivations.check import Subject, all_claims, judge, try_claim
from derivations.check.report import HEADER, block, row
from tests.theory import rules
from tests.theory.own_rule import own_rule
from theory import derivable_rules, derive

FAST = ("gd", "scalar_rmsprop", "nesterov")


def failures(rule, share):
    d = derive(rule)
    verdicts = list(judge(Subject(d, d.update), share=share))
    return [block(v, v.counterexample) for v in verdicts if v.counterexample], verdicts


@pytest.mark.parametrize(
    "rule", [*FAST, own_rule, rules.adabelief, rules.two_poles], ids=lambda r: getattr(r, "name", r)
)
def test_claims_hold_on_a_few_numbers(rule):
    failed, verdicts = failures(rule, 0.1)
    assert not failed
    assert all(len(row(v)) == len(HEADER) for v in verdicts)


@pytest.mark.slow
@pytest.mark.parametrize("rule", derivable_rules())
def test_claims_hold(rule):
    failed, _ = failures(rule, 1.0)
    assert not failed


def test_claims_are_numbered_and_named_once():
    names = [claim.name for claim in all_claims()]
    assert len(set(names)) == len(names) >= 15
    assert all(claim.reference for claim in all_claims())


def test_false_claim_is_shrunk_to_simple_numbers():
    d = derive("gd")
    wrong = replace(d, stability=replace(d.stability, threshold=d.threshold * 2))
    claim = next(c for c in all_claims() if c.reference == "(T2)")
    verdict = try_claim(claim, Subject(wrong, d.update))
    assert verdict.outcome == "NO"
    text = block(verdict, verdict.counterexample)
    assert "(T2)" in text and "spectral radius" in text and "lr = 1" in text


def test_same_seed_same_evidence():
    d = derive("scalar_rmsprop")
    claim = next(c for c in all_claims() if c.reference == "(T10)")
    first, second, other = (try_claim(claim, Subject(d, d.update), seed) for seed in (3, 3, 4))
    assert first.error == second.error != other.error
