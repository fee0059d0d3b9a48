"""Plant errors in the symbolic layer and in rules, and count how many the checks notice.

    python -m tests.benchmarks.kill_rate --sample 200 --seed 0

Prints one row per module and rule, then every survivor with the results in which it differs. An error is *caught* if deriving
already fails (a refusal, an own check, a crash), *killed* if a claim finds a counterexample, *equivalent* if every derived
result of every rule of the panel is symbolically identical, *restated* if that holds up to the form of what may be written in
several ways (`tests.check.derived.FORM`): the characteristic polynomial up to a factor, the Hurwitz conditions up to where
they hold together on random points, code up to repetition, and whether a flip is proved or certified at numbers. The rate is killed / (killed + survived): what fails by itself is
left out of it.
"""

from __future__ import annotations

import argparse
import importlib
import random
import sys
import time
import warnings
from collections import Counter
from collections.abc import Iterable
from types import ModuleType

from derivations.cli.output import show_table
from tests.check.killing import Fate, baseline, fate_in_rule, fate_in_theory
from tests.check.mutation import Mutant, module_mutants, rule_mutants
from tests.theory import rules
from tests.theory.own_rule import own_rule
from theory import derivable_rules, load_rule
from theory.rule import UpdateRule

STEPS = ("unit_gain", "normal_form", "stability", "averaging", "flow", "complementarity", "projection", "ripple")
MODULES = (*STEPS, "modified_flow", "fixed_point", "clock", "codegen")
OUTCOMES = ("caught", "killed", "equivalent", "restated", "SURVIVED")


def panel() -> list[UpdateRule]:
    """Rules that together use every part of the symbolic layer, cheap ones first."""
    own = [rules.norm_and_decay, own_rule, rules.adabelief, rules.two_poles]
    return [load_rule("rmsprop"), load_rule("nesterov"), load_rule("scalar_rmsprop"), *own, load_rule("adam")]


def main(arguments: list[str] | None = None) -> int:
    """Run; exit with 1 if fewer than 95 % of the errors are killed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sample", type=int, default=150, help="number of mutants, 0 for all (default %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the sample (default %(default)s)")
    parser.add_argument("--only", nargs="*", help="modules or rules to mutate")
    chosen = parser.parse_args(arguments)
    warnings.simplefilter("ignore")
    work = _work(chosen.only, chosen.sample, chosen.seed)
    fates = list(_run(work))
    _table(fates)
    return 0 if rate(fate for _, fate in fates) >= 0.95 else 1


Work = list[tuple[str, ModuleType | UpdateRule, Mutant]]


def _work(only: list[str] | None, sample: int, seed: int) -> Work:
    everything: Work = []
    for name in MODULES:
        module = importlib.import_module(f"theory.{name}")
        everything += [(name, module, m) for m in module_mutants(module) if not only or name in only]
    for name, rule in derivable_rules().items():
        everything += [(name, rule, m) for m in rule_mutants(rule) if not only or name in only]
    if sample and sample < len(everything):
        everything = random.Random(seed).sample(everything, sample)
    return sorted(everything, key=lambda item: item[0])


def _run(work: Work) -> Iterable[tuple[str, Fate]]:
    used = panel()
    for rule in used:
        baseline(rule)
    for number, (name, target, mutant) in enumerate(work, 1):
        began = time.perf_counter()
        fate = fate_in_rule(target, mutant) if isinstance(target, UpdateRule) else fate_in_theory(target, mutant, used)
        seconds = time.perf_counter() - began
        sys.stderr.write(f"{number}/{len(work)} {fate.outcome} {seconds:.1f} s {mutant} [{fate.by}]\n")
        yield name, fate


def rate(fates: Iterable[Fate]) -> float:
    """Share of killed among those that neither fail by themselves nor change nothing."""
    count = Counter(f.outcome for f in fates)
    return count["killed"] / max(1, count["killed"] + count["SURVIVED"])


def _table(fates: list[tuple[str, Fate]]) -> None:
    rows = []
    for name in [*dict.fromkeys(n for n, _ in fates), "all"]:
        mine = [f for n, f in fates if name in {n, "all"}]
        count = Counter(f.outcome for f in mine)
        rows.append((name, str(len(mine)), *(str(count[o]) for o in OUTCOMES), f"{rate(mine):.1%}"))
    show_table(
        "Planted errors",
        ("in", "mutants", "caught", "killed", "equivalent", "restated", "survived", "killed of visible"),
        rows,
    )
    for _, fate in fates:
        if fate.outcome in {"SURVIVED", "restated"}:
            sys.stdout.write(f"{fate.outcome}: {fate.mutant}\n  {fate.by}\n")


if __name__ == "__main__":
    sys.exit(main())
