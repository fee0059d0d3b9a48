"""Plant errors in source: a generic generator over syntax trees, for functions of a module and for an update rule.

An error is one local change: a sign, a factor 2, a dropped term, + for −, · for /, a constant, z = 1 for z = −1, one symbol for
another, two arguments or branches exchanged, a comparison turned, ε moved into the root or out of it.
"""

from __future__ import annotations

import ast
import copy
import inspect
import textwrap
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from types import CodeType, FunctionType, ModuleType
from typing import Any

from theory.rule import UpdateRule
from theory.symbols import Quantity

SWAPPED: dict[type, type] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.Lt: ast.GtE,
    ast.GtE: ast.Lt,
    ast.Gt: ast.LtE,
    ast.LtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.And: ast.Or,
    ast.Or: ast.And,
}
SKIPPED = (ast.Raise, ast.Assert, ast.JoinedStr, ast.arguments)


@dataclass(frozen=True)
class Mutant:
    """A changed function: where, what was changed, and the changed function as a tree."""

    where: str
    change: str
    line: int
    tree: ast.FunctionDef

    def __str__(self) -> str:
        return f"{self.where}:{self.line}: {self.change}"


def module_mutants(module: ModuleType) -> Iterator[Mutant]:
    """Every mutant of every function and method of a module."""
    tree = ast.parse(inspect.getsource(module))
    alike = _alike(vars(module))
    for function, prefix in _functions(tree):
        yield from _mutants(function, f"{module.__name__}.{prefix}{function.name}", alike)


def rule_mutants(rule: UpdateRule) -> Iterator[Mutant]:
    """Every mutant of a rule's function."""
    source = textwrap.dedent(inspect.getsource(rule.function))
    function = next(n for n in ast.parse(source).body if isinstance(n, ast.FunctionDef))
    function.decorator_list = []
    names = sorted({*rule.hyper, *rule.states})
    yield from _mutants(function, rule.name, {n: [m for m in names if m != n] for n in names})


def _functions(tree: ast.Module) -> Iterator[tuple[ast.FunctionDef, str]]:
    for node in tree.body:
        if isinstance(node, ast.FunctionDef):
            yield node, ""
        elif isinstance(node, ast.ClassDef):
            yield from ((f, f"{node.name}.") for f in node.body if isinstance(f, ast.FunctionDef))


def _alike(names: dict[str, Any]) -> dict[str, list[str]]:
    """For each symbol of the catalogue that a module uses, the others of its shape there."""
    symbols = {n: v for n, v in names.items() if isinstance(v, Quantity)}
    return {n: [m for m in symbols if m != n and type(symbols[m]) is type(v)] for n, v in symbols.items()}


def _mutants(function: ast.FunctionDef, where: str, alike: dict[str, list[str]]) -> Iterator[Mutant]:
    for path in _paths(function):
        node = _at(function, path)
        for replacement in _changes(node, alike):
            changed = copy.deepcopy(function)
            _put(changed, path, replacement)
            ast.fix_missing_locations(changed)
            yield Mutant(where, f"{ast.unparse(node)}  →  {ast.unparse(replacement)}", node.lineno, changed)


Path = tuple[tuple[str, int | None], ...]


def _paths(node: ast.AST, path: Path = ()) -> Iterator[Path]:
    """Where expressions are, below a function; text, annotations and error messages are left out."""
    for field, value in ast.iter_fields(node):
        if field in {"annotation", "returns", "decorator_list", "keywords"} and field != "keywords":
            continue
        for index, child in enumerate(value) if isinstance(value, list) else [(None, value)]:
            if not isinstance(child, ast.AST) or isinstance(child, SKIPPED):
                continue
            here = (*path, (field, index))
            if isinstance(child, ast.expr):
                yield here
            yield from _paths(child, here)


def _at(node: Any, path: Path) -> Any:
    for field, index in path:
        value = getattr(node, field)
        node = value if index is None else value[index]
    return node


def _put(node: Any, path: Path, replacement: ast.AST) -> None:
    owner = _at(node, path[:-1])
    field, index = path[-1]
    if index is None:
        setattr(owner, field, replacement)
    else:
        getattr(owner, field)[index] = replacement


def _changes(node: ast.expr, alike: dict[str, list[str]]) -> Iterator[ast.expr]:
    match node:
        case ast.BinOp(left, op, right):
            if type(op) in SWAPPED:
                yield _with(node, op=SWAPPED[type(op)]())
                yield ast.BinOp(ast.Constant(2), ast.Mult(), node)
                yield ast.UnaryOp(ast.USub(), node)
            if isinstance(op, ast.Add | ast.Sub):
                yield left
                yield right
        case ast.UnaryOp(ast.USub() | ast.Not(), operand):
            yield operand
        case ast.Constant(value) if type(value) is int:
            yield ast.Constant(-value if value == 1 else value + 1)
            if value:
                yield ast.Constant(value - 1)
        case ast.Name(name, ast.Load()) if name in alike:
            yield from (ast.Name(other, ast.Load()) for other in alike[name])
        case ast.Attribute(ast.Name("s"), name, ast.Load()) if name in alike:
            yield from (_with(node, attr=other) for other in alike[name])
        case ast.Compare(_, [op], _) if type(op) in SWAPPED:
            yield _with(node, ops=[SWAPPED[type(op)]()])
        case ast.BoolOp(op, _):
            yield _with(node, op=SWAPPED[type(op)]())
        case ast.IfExp(test, body, orelse):
            yield ast.IfExp(test, orelse, body)
        case ast.Call(_, [first, second, *rest]) if not isinstance(second, ast.Starred):
            yield _with(node, args=[second, first, *rest])
    yield from _root_moved(node)


def _root_moved(node: ast.expr) -> Iterator[ast.expr]:
    """√x + ε for √(x + ε), and back."""
    match node:
        case ast.BinOp(ast.Call(ast.Name("sqrt" | "cbrt") as root, [x]), ast.Add(), offset):
            yield ast.Call(root, [ast.BinOp(x, ast.Add(), offset)], [])
        case ast.Call(ast.Name("sqrt" | "cbrt") as root, [ast.BinOp(x, ast.Add(), offset)]):
            yield ast.BinOp(ast.Call(root, [x], []), ast.Add(), offset)


def _with(node: Any, **fields: Any) -> Any:
    changed = copy.copy(node)
    for name, value in fields.items():
        setattr(changed, name, value)
    return changed


@contextmanager
def planted(module: ModuleType, mutant: Mutant) -> Generator[None]:
    """Run a module with one function's code exchanged, for everybody who has imported it."""
    function = _resolve(module, mutant.where.removeprefix(f"{module.__name__}."))
    original = function.__code__
    function.__code__ = _code(mutant.tree, original)
    try:
        yield
    finally:
        function.__code__ = original


def mutated_rule(rule: UpdateRule, mutant: Mutant) -> UpdateRule:
    """The rule with the changed function."""
    original = rule.function
    assert isinstance(original, FunctionType)
    changed = FunctionType(_code(mutant.tree, original.__code__), original.__globals__, original.__name__)
    return replace(rule, function=changed)


def _resolve(module: ModuleType, qualname: str) -> FunctionType:
    value: Any = module
    for name in qualname.split("."):
        value = inspect.getattr_static(value, name)
    for wrapper in ("fget", "func", "__func__", "__wrapped__"):
        value = getattr(value, wrapper, None) or value
    assert isinstance(value, FunctionType)
    return value


def _code(tree: ast.FunctionDef, original: CodeType) -> CodeType:
    bare = copy.copy(tree)
    bare.decorator_list = []
    module = ast.Module([bare], [])
    ast.fix_missing_locations(module)
    compiled = compile(module, original.co_filename, "exec", flags=original.co_flags & 0x1000000)
    return next(c for c in compiled.co_consts if isinstance(c, CodeType) and c.co_name == original.co_name)
