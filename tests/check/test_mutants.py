"""Planted errors are noticed: a seeded sample here, the full rate in `tests.benchmarks.kill_rate`."""

import importlib
import random

import pytest

from tests.benchmarks import kill_rate
from tests.check.derived import results
from tests.check.killing import baseline, every_claim, fate_in_rule, fate_in_theory
from tests.check.mutation import Mutant, module_mutants, planted, rule_mutants
from tests.theory import rules
from theory import derive, load_rule

PANEL = ("rmsprop", "nesterov")
SAMPLE, SEED = 15, 5


def sample(mutants, count):
    return random.Random(SEED).sample(list(mutants), count)


def name(value):
    return value.where if isinstance(value, Mutant) else ""


def in_theory():
    names = ("normal_form", "stability", "averaging", "flow", "complementarity")
    modules = [importlib.import_module(f"theory.{name}") for name in names]
    return sample([(module, mutant) for module in modules for mutant in module_mutants(module)], SAMPLE - 5)


def in_rules():
    rules = [load_rule(name) for name in PANEL]
    return sample([(rule, mutant) for rule in rules for mutant in rule_mutants(rule)], 5)


@pytest.mark.parametrize(("module", "mutant"), in_theory(), ids=name)
def test_error_in_the_symbolic_layer_is_noticed(module, mutant):
    fate = fate_in_theory(module, mutant, [*map(load_rule, PANEL), rules.adabelief], every_claim)
    assert fate.outcome != "SURVIVED", fate


@pytest.mark.parametrize(("rule", "mutant"), in_rules(), ids=name)
def test_error_in_a_rule_is_noticed(rule, mutant):
    fate = fate_in_rule(rule, mutant, every_claim)
    assert fate.outcome != "SURVIVED", fate


def test_planted_error_is_gone_afterwards():
    module = importlib.import_module("theory.flow")
    mutant = next(m for m in module_mutants(module) if "to_flow" in m.where and m.change.startswith("-form.gamma * w"))
    with planted(module, mutant):
        assert results(derive("rmsprop")) != baseline(load_rule("rmsprop"))
    assert results(derive("rmsprop")) == baseline(load_rule("rmsprop"))


@pytest.mark.slow
def test_kill_rate():
    assert kill_rate.main(["--sample", "100", "--seed", "7"]) == 0
