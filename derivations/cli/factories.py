"""Flags from the signatures of what makes networks and data, read from the source so that `--help` needs no torch."""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from derivations.cli.refusal import CommandRefused

GIVEN = ("data", "seed", "dtype", "device")  # arguments that the run itself supplies
REQUIRED = object()


@dataclass(frozen=True)
class Parameter:
    """An argument of a factory: how its text is read, its default (`REQUIRED` without), its help and its choices."""

    read: Callable[[str], Any]
    default: Any
    help: str
    choices: tuple[str, ...] = ()


@dataclass(frozen=True)
class Factory:
    """What makes a network or data: the name it was asked for by, the arguments left to the user, and those given."""

    name: str
    parameters: dict[str, Parameter]
    given: frozenset[str] = frozenset()


def names(kind: str) -> tuple[str, ...]:
    """Return the built-in names of a kind, "models" or "data"."""
    return tuple(sorted(path.stem for path in _folder(kind).glob("*.py") if _built_in(kind, path.stem) is not None))


def factory(kind: str, name: str) -> Factory:
    """Return the factory of a built-in name, or of a user's `package.module:factory` or `file.py:factory`.

    Raises:
        CommandRefused: there is none.
    """
    if ":" in name:
        return _described(name, _users(kind, name))
    node = _built_in(kind, name)
    if node is None:
        raise CommandRefused(
            f"--{kind.removesuffix('s')} must be one of {', '.join(names(kind))}, or your own as package.module:factory "
            f"or file.py:factory, got {name!r}."
        )
    return _described(name, node)


def _folder(kind: str) -> Path:
    spec = find_spec("numerics")
    assert spec is not None and spec.origin is not None
    return Path(spec.origin).parent / kind


def _built_in(kind: str, name: str) -> ast.FunctionDef | None:
    """Return the definition of a file's function of the file's own name, or of the `for_data` of its class."""
    path = _folder(kind) / f"{name}.py"
    if not name.isidentifier() or not path.is_file():
        return None
    for node in _definitions(path):
        if kind == "data" and isinstance(node, ast.FunctionDef) and node.name == name:
            return node
        if (
            kind == "models"
            and isinstance(node, ast.ClassDef)
            and node.name.lower() == name
            and "for_data" in _methods(node)
        ):
            return None if name == "architecture" else _methods(node)["for_data"]
    return None


def _definitions(path: Path) -> Iterator[ast.FunctionDef | ast.ClassDef]:
    try:
        body = ast.parse(path.read_text(encoding="utf-8"), filename=str(path)).body
    except (OSError, UnicodeDecodeError) as error:
        raise CommandRefused(f"{path} must be a readable Python file, and is none ({error}).") from None
    except SyntaxError as error:
        raise CommandRefused(f"{path} has a syntax error in line {error.lineno}: {error.msg}.") from None
    yield from (node for node in body if isinstance(node, ast.FunctionDef | ast.ClassDef))


def _methods(node: ast.ClassDef) -> dict[str, ast.FunctionDef]:
    return {child.name: child for child in node.body if isinstance(child, ast.FunctionDef)}


def _users(kind: str, target: str) -> ast.FunctionDef | None:
    """Return the definition that takes the arguments of a user's target, if its source shows it.

    Raises:
        CommandRefused: it names a file that does not exist.
    """
    module, _, attribute = target.rpartition(":")
    path = source_of(module)
    if module.endswith(".py") and (path is None or not path.is_file()):
        raise CommandRefused(f"--{kind.removesuffix('s')} names the file {module}, which does not exist.")
    for node in _definitions(path) if path is not None else ():
        if node.name == attribute and isinstance(node, ast.FunctionDef):
            return node
        if node.name == attribute and isinstance(node, ast.ClassDef):
            methods = _methods(node)
            return methods.get("for_data") or methods.get("__init__")
    return None


def source_of(module: str) -> Path | None:
    """Return the file of a module, without importing the packages that it is in; None where it is not plain source."""
    if module.endswith(".py"):
        return Path(module)
    parts = module.split(".")
    for folder in (*sys.path, "."):
        for path in (Path(folder, *parts).with_suffix(".py"), Path(folder, *parts, "__init__.py")):
            if path.is_file():
                return path
    return None


def _described(name: str, node: ast.FunctionDef | None) -> Factory:
    if node is None:
        return Factory(name, {})
    texts = _argument_help(ast.get_docstring(node) or "")
    arguments = [a for a in _arguments(node) if a[0].arg not in {"self", "cls"}]
    parameters = {a.arg: _parameter(a, default, texts.get(a.arg, "")) for a, default in arguments if a.arg not in GIVEN}
    return Factory(name, parameters, frozenset(a.arg for a, _ in arguments if a.arg in GIVEN))


def _arguments(node: ast.FunctionDef) -> Iterator[tuple[ast.arg, ast.expr | None]]:
    positional = [*node.args.posonlyargs, *node.args.args]
    missing: list[ast.expr | None] = [None] * (len(positional) - len(node.args.defaults))
    yield from zip(positional, [*missing, *node.args.defaults], strict=True)
    yield from zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True)


def _argument_help(docstring: str) -> dict[str, str]:
    """Return the text of each argument in the Args section of a docstring."""
    found: dict[str, str] = {}
    name = ""
    section = docstring.partition("Args:\n")[2].partition("\n\n")[0]
    for line in section.splitlines():
        indent = len(line) - len(line.lstrip())
        if indent == 4 and ":" in line:
            name, _, text = (part.strip() for part in line.partition(":"))
            found[name] = text
        elif name:
            found[name] += " " + line.strip()
    return {key: text.rstrip(".") for key, text in found.items()}


def _parameter(argument: ast.arg, default: ast.expr | None, text: str) -> Parameter:
    try:
        value = REQUIRED if default is None else ast.literal_eval(default)
    except ValueError:  # a default that only running the file could tell
        value = None
    annotation = ast.unparse(argument.annotation).strip("'\"") if argument.annotation is not None else ""
    choices = _choices(annotation)
    return Parameter(str if choices else _reader(annotation, value), value, text, choices)


def _choices(annotation: str) -> tuple[str, ...]:
    """Return the texts that a Literal annotation allows, none for any other."""
    if not annotation.startswith("Literal[") or not annotation.endswith("]"):
        return ()
    try:
        found = ast.literal_eval(f"({annotation[8:-1]},)")
    except (ValueError, SyntaxError):
        return ()
    return tuple(found) if all(isinstance(choice, str) for choice in found) else ()


def _reader(annotation: str, default: Any) -> Callable[[str], Any]:
    """Return how a text becomes a value of an annotated kind; without annotation, of the default's kind."""
    kind = annotation.partition("[")[0].partition(" |")[0]
    known: dict[str, Callable[[str], Any]] = {
        "int": int,
        "float": float,
        "bool": truth,
        "str": str,
        "Path": str,
        "Sequence": integers,
        "tuple": integers,
        "list": integers,
    }
    if kind in known:
        return known[kind]
    return known.get(type(default).__name__, number_or_text) if default is not REQUIRED else number_or_text


def integers(text: str) -> tuple[int, ...]:
    """Return the numbers of a list such as `8,16`, or `[8, 16]` as TOML gives it."""
    return tuple(int(part) for part in text.strip("[]() ").split(",") if part.strip())


def truth(text: str) -> bool:
    """Return whether a text says yes.

    Raises:
        ValueError: it says neither yes nor no.
    """
    values = {"true": True, "on": True, "yes": True, "false": False, "off": False, "no": False}
    if text.lower() not in values:
        raise ValueError(f"{text!r} is neither on nor off")
    return values[text.lower()]


def number_or_text(text: str) -> Any:
    """Return the number that a text stands for, or the text."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def shown(value: Any) -> str:
    """Return a default as it would be typed."""
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ",".join(map(str, value))
    return {True: "on", False: "off"}[value] if isinstance(value, bool) else str(value)
