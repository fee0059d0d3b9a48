r"""A derivation as one Python file that needs PyTorch alone: the emitted formulas put into a fixed template.

The template is a module of this package that is read as text and never imported: only its part between two marks, which
declares the rule, is generated.
"""

from __future__ import annotations

import re
import textwrap
from importlib.resources import files
from typing import TYPE_CHECKING

from theory.symbols import Shape

if TYPE_CHECKING:
    from theory.codegen import EmittedRule
    from theory.derivation import Derivation

TEMPLATE = "torch_template.py"
_OPERATIONS = (
    "sqrt",
    "exp",
    "log",
    "sin",
    "cos",
    "tanh",
    "pi",
    "total",
    "block_total",
    "spread",
    "along",
    "ratio",
    "decay_log",
    "identity",
    "outer",
    "matrix_sqrt",
    "sqrt_rate",
    "apply",
    "solve",
)
_SHAPES = {Shape.SCALAR: "number", Shape.BLOCK: "tensor", Shape.PARAMETER: "parameter", Shape.MATRIX: "pair"}


def torch_source(d: Derivation) -> str:
    """The optimizer and its flows as a Python file.

    Args:
        d: the derivation.

    Returns:
        Source that imports torch and the standard library only; running it shows a demonstration.
    """
    template = files("theory").joinpath(TEMPLATE).read_text(encoding="utf-8")
    emitted = d.emitted
    filled, count = re.subn(
        r"# >>> generated\n.*?# <<< generated\n", lambda _: _generated(emitted), template, flags=re.DOTALL
    )
    assert count == 1, "the template has one generated part"
    return filled.replace("The update rule NAME", f"The update rule {emitted.name}", 1)


def _generated(emitted: EmittedRule) -> str:
    hyper = {n: None if h.default is None else float(h.default) for n, h in emitted.hyper.items()}
    domains = ", ".join(f"{n} in {h.domain}" for n, h in emitted.hyper.items())
    schedules = [f"# {n} = {e} varies in the step counter t.\n" for n, e in emitted.schedules.items()]
    states = {n: (_SHAPES[s.shape], float(s.initial)) for n, s in emitted.states.items()}
    names = re.findall(r"^def (\w+)\(", emitted.source, re.MULTILINE)
    return (
        f"# {domains or 'no hyperparameters'}\n{''.join(schedules)}"
        f"NAME = {emitted.name!r}\n"
        f"HYPER: dict[str, float | None] = {hyper!r}  # name: default, None where it must be given\n"
        f"STATES: dict[str, tuple[str, float]] = {states!r}  # name: (one per what, value before the first step)\n"
        f"ACCUMULATORS: tuple[str, ...] = {emitted.accumulators!r}\n"
        f"READS_FILTERS = {emitted.reads_filters!r}\n\n\n"
        "def formulas(o: SimpleNamespace) -> dict[str, Any]:\n"
        '    """Return the rule\'s functions over the operations o."""\n'
        + "".join(f"    {name} = o.{name}\n" for name in _OPERATIONS if re.search(rf"\b{name}\b", emitted.source))
        + "\n"
        + textwrap.indent(emitted.source.strip("\n"), "    ")
        + f"\n\n    return dict({', '.join(f'{n}={n}' for n in names)})\n\n\n"
    )
