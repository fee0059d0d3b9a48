import pytest

from theory import derivable_rules, derive
from theory.calculus import is_zero

RULES = derivable_rules()


def published():
    for name, rule in RULES.items():
        if rule.published is not None:
            yield from ((name, claim) for claim in rule.published(derive(rule)))


@pytest.mark.parametrize(("name", "claim"), list(published()))
def test_derived_equals_published(name, claim):
    derived, stated = RULES[name].published(derive(name))[claim]
    assert is_zero(derived - stated), f"{derived} is not {stated}"


def test_published_comparison_can_fail():
    derived, stated = RULES["gd"].published(derive("gd"))["variance"]
    assert not is_zero(derived + stated)
