"""Find update rules: by name among the installed ones, or in a file."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import pkgutil
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType

from theory.errors import RuleRefused
from theory.rule import UpdateRule

GROUP = "centralflow.rules"


@cache
def available_rules() -> dict[str, UpdateRule]:
    """Every rule in the packages of the entry-point group, by name."""
    rules: dict[str, UpdateRule] = {}
    for entry in entry_points(group=GROUP):
        package = entry.load()
        for module in pkgutil.iter_modules(package.__path__):
            rules |= _rules_in(importlib.import_module(f"{package.__name__}.{module.name}"))
    return dict(sorted(rules.items()))


def derivable_rules() -> dict[str, UpdateRule]:
    """The rules that the theory covers: all but those declared as refused."""
    return {name: rule for name, rule in available_rules().items() if rule.refused is None}


def load_rule(name: str | Path | UpdateRule) -> UpdateRule:
    """Return the rule of this name, or the one defined in this file.

    Args:
        name: a rule (returned as it is), the name of an installed rule, or the path of a .py file with one rule.

    Returns:
        The rule.

    Raises:
        RuleRefused: If there is no such rule or file, or the file cannot be read or holds no rule or several.
    """
    if isinstance(name, UpdateRule):
        return name
    if str(name).endswith(".py"):
        return _rule_in_file(Path(name))
    rules = available_rules()
    if name not in rules:
        close = difflib.get_close_matches(str(name), rules, n=1)
        hint = f"did you mean {close[0]!r}? Installed" if close else "Installed"
        raise RuleRefused(
            f"there is no rule {str(name)!r}: {hint} are {', '.join(rules)}; a file is given by its path, ending in .py."
        )
    return rules[str(name)]


def _rule_in_file(path: Path) -> UpdateRule:
    if not path.is_file():
        raise RuleRefused(
            f"there is no rule file {path}: give the path of a .py file, or the name of an installed rule."
        )
    spec = importlib.util.spec_from_file_location(f"rule_file_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except SyntaxError as error:
        raise RuleRefused(f"the rule file {path} has a syntax error in line {error.lineno}: {error.msg}.") from None
    except RuleRefused:
        raise
    except Exception as error:
        raise RuleRefused(f"the rule file {path} cannot be imported: {type(error).__name__}: {error}.") from error
    rules = _rules_in(module)
    if len(rules) != 1:
        found = f"{len(rules)} ({', '.join(rules)})" if rules else "none"
        raise RuleRefused(f"the rule file {path} must define exactly one rule with @update_rule, found {found}.")
    rule = next(iter(rules.values()))
    if rule.name in available_rules() and not _same_file(rule, available_rules()[rule.name]):
        raise RuleRefused(
            f"the rule file {path} defines {rule.name!r}, line {rule.function.__code__.co_firstlineno}, which is the name of an installed rule: "
            "choose another name, so that records tell them apart."
        )
    return rule


def _same_file(rule: UpdateRule, other: UpdateRule) -> bool:
    """Whether a rule read from a file is the installed one itself."""
    return Path(rule.function.__code__.co_filename).resolve() == Path(other.function.__code__.co_filename).resolve()


def _rules_in(module: ModuleType) -> dict[str, UpdateRule]:
    return {r.name: r for r in vars(module).values() if isinstance(r, UpdateRule)}
