"""Imports point one way, rules are named in derivations/ only, tensors leave torch in one file, files stay short."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from theory import available_rules

ROOT = Path(__file__).parents[1]
FILES = {top: sorted((ROOT / top).rglob("*.py")) for top in ("theory", "numerics", "derivations")}
LIBRARIES = {
    "theory": {"sympy"},
    "numerics": {"torch", "numpy", "scipy", "cvxpy", "clarabel", "h5py", "jaxtyping", "sklearn", "mnist1d"},
}
# Files that may import more than their layer: `Derivation.to_html` is promised on the derivation, and MathML needs a converter,
# which is pure Python; the template of standalone code is read as text and never imported.
EXCEPTIONS = {"theory/html.py": {"latex2mathml"}, "theory/torch_template.py": {"torch"}}
LOWERED_TYPES = {"derive", "EmittedRule", "Derivation", "RuleRefused"}
LEAVES_TORCH = {"cuda", "numpy", "from_numpy"}


def identify(path):
    return str(path.relative_to(ROOT))


def tree(path):
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def imports(path):
    """(module, names) of every import, nested ones too."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from ((alias.name, ()) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "absolute imports only"
            yield node.module, tuple(alias.name for alias in node.names)


@pytest.mark.parametrize("path", FILES["theory"] + FILES["numerics"], ids=identify)
def test_imports(path):
    top = path.relative_to(ROOT).parts[0]
    allowed = LIBRARIES[top] | {top} | set(sys.stdlib_module_names) | EXCEPTIONS.get(identify(path), set())
    simulate = path == ROOT / "numerics" / "simulate.py"
    for module, names in imports(path):
        package = module.split(".")[0]
        if simulate and package == "theory":
            assert names, "import names from theory, not the module"
            assert set(names) <= LOWERED_TYPES
        else:
            assert package in allowed, f"{package} may not be imported here"


@pytest.mark.parametrize("statement", ["import theory", "import theory; theory.derive('gd').to_latex()"])
def test_theory_needs_no_torch(statement):
    blocked = "import sys; sys.modules.update(dict.fromkeys(('torch', 'numpy', 'scipy', 'cvxpy', 'h5py')))"
    run = subprocess.run(
        [sys.executable, "-c", f"{blocked}; {statement}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert run.returncode == 0, run.stderr


def docstrings(module):
    for node in ast.walk(module):
        if (
            isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
            and ast.get_docstring(node) is not None
        ):
            yield node.body[0].value


def words(path):
    """Words of all identifiers and of all strings that are not docstrings, with their lines."""
    module = tree(path)
    documentation = set(map(id, docstrings(module)))
    for node in ast.walk(module):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documentation:
            yield from ((word, node.lineno) for word in re.findall(r"\w+", node.value))
        for field in ("id", "attr", "arg", "name"):
            if isinstance(name := getattr(node, field, None), str):
                yield name, getattr(node, "lineno", 0)


@pytest.mark.parametrize("path", FILES["theory"] + FILES["numerics"], ids=identify)
def test_no_rule_is_named(path):
    rules = set(available_rules())
    named = [(word, line) for word, line in words(path) if word.lower() in rules]
    assert not named, "a rule belongs in derivations/rules/ and nowhere else"


def test_rule_names_would_be_found(tmp_path):
    path = tmp_path / "x.py"
    path.write_text('"""Docstrings may say gd."""\nif rule == "gd":\n    pass\n')
    assert ("gd", 2) in list(words(path))
    assert ("gd", 1) not in list(words(path))


def conversions(path):
    """Lines on which a tensor leaves torch, or is sent to a device of the code's choosing."""
    module = tree(path)
    uses_torch = any(name.split(".")[0] == "torch" for name, _ in imports(path))
    for node in ast.walk(module):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        on_numpy = isinstance(node.func.value, ast.Name) and node.func.value.id in {"np", "numpy"}
        # In a module without torch an array stays an array, so asarray is harmless there.
        if node.func.attr in LEAVES_TORCH or (uses_torch and on_numpy and node.func.attr in {"asarray", "array"}):
            yield node.lineno


@pytest.mark.parametrize("path", [p for p in FILES["numerics"] if p.name != "boundary.py"], ids=identify)
def test_tensors_leave_torch_at_the_boundary_only(path):
    assert not list(conversions(path)), "use numerics.boundary"


def test_conversions_would_be_found(tmp_path):
    path = tmp_path / "x.py"
    path.write_text(
        "import torch\nimport numpy as np\nx.numpy()\nnp.asarray(x)\ntorch.from_numpy(x)\nx.cuda()\nnp.zeros(3)\n"
    )
    assert sorted(conversions(path)) == [3, 4, 5, 6]


@pytest.mark.parametrize("path", [p for files in FILES.values() for p in files], ids=identify)
def test_file_length(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 500
