r"""Python source of a rule and its flow, over a small namespace of tensor operations.

The namespace has ``sqrt exp log`` and friends elementwise; ``total`` and ``block_total`` (sums over the last axis, or over each
parameter tensor in it); ``spread`` (per tensor → per parameter); ``along(c, d)`` = c·d, 0 where d = 0 even if c is infinite;
``ratio(x, d)`` = x/d, 0 where d = 0; ``decay_log(b)`` = log b, 0 for b = 0, which stands only beside powers b^t. Matrices, on the
last two axes, have ``identity()``, ``outer(a, b)`` = ½(abᵀ + baᵀ), ``matrix_sqrt(V)``, ``sqrt_rate(V, D)``, its derivative along D,
``apply(M, x)`` = Mx and ``solve(M, x)`` = M⁻¹x.
Vectors live on the last axis and any leading axes broadcast, so that one function serves a mode and all pairs of modes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import sympy as sp
from sympy.printing.pycode import PythonCodePrinter

from theory.calculus import directional
from theory.declarations import Hyper, State
from theory.errors import RuleRefused
from theory.flow import local_derivative
from theory.matrices import Apply, MatrixSqrt, Outer, Solve, SqrtRate
from theory.symbols import BlockTotal, Node, Quantity, Shape, T, Total, g, h, q, quantity, shape_of, w, y, y2, z

if TYPE_CHECKING:
    from theory.derivation import Derivation


@dataclass(frozen=True)
class EmittedRule:
    """Source and the declarations needed to run it; ``source`` defines the functions listed in `emit`."""

    name: str
    source: str
    hyper: dict[str, Hyper]
    states: dict[str, State]
    accumulators: tuple[str, ...]
    filters: tuple[str, ...]
    reads_filters: bool
    shape: Shape
    schedules: dict[str, str]


def emit(d: Derivation) -> EmittedRule:
    """Emit all functions of a derivation.

    ``step`` is the discrete optimizer. ``advance_clocks`` moves the accumulators that no gradient reaches, by h steps, and leaves the others;
    then ``accumulator_map``, f at the mean gradient, ``accumulator_rate``, ``…_rate_X`` (per pair of gradient oscillations) and
    ``…_rate_cross``, the flow, move the others and leave the clocks; ``implicit`` solves (1 − dt ∂ȧ/∂a)x = d; ``preconditioner``,
    its ``…_rate`` along given rates of the accumulators, ``threshold``, ``velocity``, ``velocity_X`` (per T = ∇H[u_k, u_l]) and ``memory``.
    Filter states before and after a step are ``filters`` and ``filters_next``: ``unit_filters`` takes them from the optimizer's states, ``filter_map``
    advances them, ``settled`` is their value at a constant gradient, ``drive`` is F g; ``feedthrough`` is F(∞), ``lag`` is
    ½ − F′(1), and ``pole_start`` the state at which the one-pole filter of that lag starts. ``ripple_threshold`` and ``ripple_drift``
    are the relative sizes of what the averages drop; ``modulation_rate`` and ``modulation_delay`` are Γ and τ of its modulations.

    Args:
        d: the derivation.

    Returns:
        The emitted rule.
    """
    form, flow = d.normal_form, d.flow
    a = list(form.accumulators)
    rates = {s: quantity(f"{s}_dot", s.shape) for s in a}
    shift = {s: quantity(f"{s}_d", s.shape) for s in a}
    solved = _solve_implicit(flow.jacobian, [shift[s] for s in a])
    names = tuple(str(s) for s in a)
    m = list(form.filters)
    seen = {"a": a, "filters": m, "filters_next": [form.outputs[s] for s in m]}
    means = ("a", "filters", "filters_next", "g")
    functions = [
        _discrete(d),
        emit_function("advance_clocks", ("a", "h"), {"a": a}, [(clock_step(d, s), s.shape) for s in a]),
        emit_function(
            "accumulator_map", means, seen, [(s if s in form.clocks else d.averages.mean[s], s.shape) for s in a]
        ),
        emit_function("accumulator_rate", means, seen, [(driven_rate(d, s), s.shape) for s in a]),
        emit_function("accumulator_rate_X", (*means, "y", "y2"), seen, [(flow.a_X[s], s.shape) for s in a]),
        emit_function("accumulator_rate_cross", (*means, "q"), seen, [(flow.a_cross[s], s.shape) for s in a]),
        *_filter_functions(d, seen),
        *_ripple_functions(d, a),
        emit_function("modulation_rate", ("a",), {"a": a}, [(d.modulation.rate, Shape.SCALAR)], single=True),
        emit_function("modulation_delay", ("a",), {"a": a}, [(d.modulation.delay, Shape.SCALAR)], single=True),
        emit_function(
            "implicit",
            (*means, "d", "h"),
            seen | {"d": [shift[s] for s in a]},
            [(e, s.shape) for e, s in zip(solved, a, strict=True)],
        ),
        emit_function("memory", means, seen, [(flow.memory, shape_of(flow.memory))], single=True),
        emit_function("preconditioner", ("a",), {"a": a}, [(form.P, form.shape)], single=True),
        _rate("preconditioner_rate", form.P, a, rates),
        emit_function("threshold", ("a",), {"a": a}, [(d.threshold, shape_of(d.threshold))], single=True),
        emit_function("velocity", ("a", "w", "g"), {"a": a}, [(flow.w_stable, Shape.PARAMETER)], single=True),
        emit_function("velocity_X", ("a", "T"), {"a": a}, [(flow.w_X, Shape.PARAMETER)], single=True),
    ]
    return EmittedRule(
        d.rule.name,
        "\n\n".join(functions) + "\n",
        {n: d.rule.hyper[n] for n in d.update.hyper},
        d.update.states,
        names,
        tuple(str(m) for m in form.filters),
        any(f.has(*form.at_gain(1)) for f in form.accumulators.values()) if form.filters else False,
        form.shape,
        {n: str(e) for n, e in d.update.schedules.items()},
    )


def clock_step(d: Derivation, a: Quantity) -> sp.Expr:
    """An accumulator after a time h in which only clocks moved."""
    return a + h * d.flow.a_stable[a] if a in d.normal_form.clocks else a


def driven_rate(d: Derivation, a: Quantity) -> sp.Expr:
    """ȧ of an accumulator that sees the gradient; clocks, which have been advanced before, stay."""
    return sp.S.Zero if a in d.normal_form.clocks else d.flow.a_stable[a]


def _ripple_functions(d: Derivation, a: list[Quantity]) -> list[str]:
    """Both conditions: of the gradient and variances per coordinate, or of the gradient and a pair of oscillations for a matrix."""
    more: tuple[tuple[str, ...], ...] = (("y",), ("y", "y2")) if d.normal_form.shape is Shape.MATRIX else ((), ("y",))
    both = zip(("threshold", "drift"), (d.ripple.threshold, d.ripple.drift), more, strict=True)
    return [
        emit_function(f"ripple_{name}", ("a", "g", *seen), {"a": a}, [(expr, Shape.PARAMETER)], single=True)
        for name, expr, seen in both
    ]


def _filter_functions(d: Derivation, seen: dict[str, list[Quantity]]) -> list[str]:
    form = d.normal_form
    a, m = {"a": seen["a"]}, list(form.filters)
    states = {"s": [d.update.old(n) for n in d.update.states]}
    unit = [f"ratio({s.name}, {source_of(1 / form.scales[s], s.shape)})" if s in form.scales else s.name for s in m]
    used = set().union(*(form.scales[s].free_symbols for s in form.scales)) & set(d.update.hyper.values())
    return [
        "\n".join([
            "def unit_filters(hyper, s):",
            *_unpack(states),
            *(f"    {s.name} = hyper.{s.name}" for s in sorted(used, key=str)),
            f"    return ({''.join(u + ', ' for u in unit).strip()})",
        ]),
        emit_function("filter_map", ("a", "filters", "g"), a | {"filters": m}, [(form.filters[s], s.shape) for s in m]),
        emit_function("settled", ("a", "g"), a, [(g * form.gains[s].subs(z, 1), s.shape) for s in m]),
        emit_function(
            "drive", ("a", "filters", "filters_next", "g"), seen, [(form.drive, Shape.PARAMETER)], single=True
        ),
        emit_function("feedthrough", ("a",), a, [(form.feedthrough, Shape.SCALAR)], single=True),
        emit_function("lag", ("a",), a, [(form.lag, Shape.SCALAR)], single=True),
        emit_function(
            "pole_start", ("a", "filters", "g"), a | {"filters": m}, [(form.pole_start, Shape.PARAMETER)], single=True
        ),
    ]


class _Printer(PythonCodePrinter):
    """Prints an expression for a result of given shape: what has fewer numbers than its context is spread."""

    def __init__(self, context: Shape) -> None:
        super().__init__({"fully_qualified_modules": False})
        self.context = context

    def _print_BlockQuantity(self, s: Quantity) -> str:
        return f"spread({s.name})" if self.context is Shape.PARAMETER else s.name

    def _print_Total(self, r: Total) -> str:
        return f"total({_Printer(Shape.PARAMETER).doprint(r.args[0])})"

    def _print_BlockTotal(self, r: BlockTotal) -> str:
        inner = f"block_total({_Printer(Shape.PARAMETER).doprint(r.args[0])})"
        return f"spread({inner})" if self.context is Shape.PARAMETER else inner

    def _print_Eye(self, e: sp.Expr) -> str:
        return "identity()"

    def _print_Outer(self, e: Outer) -> str:
        return self._call("outer", e, Shape.PARAMETER, Shape.PARAMETER)

    def _print_MatrixSqrt(self, e: MatrixSqrt) -> str:
        return self._call("matrix_sqrt", e, Shape.MATRIX)

    def _print_SqrtRate(self, e: SqrtRate) -> str:
        return self._call("sqrt_rate", e, Shape.MATRIX, Shape.MATRIX)

    def _print_Apply(self, e: Apply) -> str:
        return self._call("apply", e, Shape.MATRIX, Shape.PARAMETER)

    def _print_Solve(self, e: Solve) -> str:
        return self._call("solve", e, Shape.MATRIX, Shape.PARAMETER)

    def _call(self, name: str, e: sp.Expr, *shapes: Shape) -> str:
        arguments = (_Printer(shape).doprint(x) for x, shape in zip(e.args, shapes, strict=True))
        return f"{name}({', '.join(arguments)})"

    def _print_DecayLog(self, f: DecayLog) -> str:
        return f"decay_log({self._print(f.args[0])})"

    def _print_AppliedUndef(self, f: sp.Function) -> str:
        raise RuleRefused(f"{f} is an undefined function: give the schedule as an expression in t before running it.")

    def _print_Derivative(self, f: sp.Derivative) -> str:
        raise RuleRefused(
            f"{f} is a derivative of an undefined function: give the schedule as an expression in t before running it."
        )


class DecayLog(sp.Function):
    """log b beside a power b^t of the same b, where b = 0 means that the product is 0."""


def source_of(expr: sp.Expr, context: Shape) -> str:
    """One expression as source, for a result of the given shape."""
    expr = sp.sympify(expr)
    decays = {p.base for p in expr.atoms(sp.Pow) if p.exp.free_symbols}
    return str(_Printer(context).doprint(expr.xreplace({sp.log(b): DecayLog(b) for b in decays})))


def emit_function(
    name: str,
    arguments: Iterable[str],
    tuples: Mapping[str, list[Quantity]],
    results: list[tuple[sp.Expr, Shape]],
    *,
    single: bool = False,
) -> str:
    lines = [f"def {name}({', '.join(('hyper', *arguments))}):"]
    used = set().union(*(e.free_symbols for e, _ in results)) if results else set()
    lines += _unpack(tuples)
    bound = {s for symbols in tuples.values() for s in symbols} | {w, g, y, y2, q, T, h}
    lines += [f"    {s.name} = hyper.{s.name}" for s in sorted(used - bound, key=str)]
    values = [source_of(e, shape) for e, shape in results]
    lines.append(f"    return {values[0]}" if single else f"    return ({''.join(v + ', ' for v in values).strip()})")
    return "\n".join(lines)


def _unpack(tuples: Mapping[str, list[Quantity]]) -> list[str]:
    return [f"    ({', '.join(s.name for s in symbols)},) = {name}" for name, symbols in tuples.items() if symbols]


def _discrete(d: Derivation) -> str:
    update = d.update
    names = list(update.states)
    lines = ["def step(hyper, w, g, s):", *_unpack({"s": [update.old(n) for n in names]})]
    used = set().union(*(e.expr.free_symbols for e in update.equations))
    lines += [f"    {s.name} = hyper.{s.name}" for s in sorted(used & set(update.hyper.values()), key=str)]
    for e in update.equations:
        shape = Shape.PARAMETER if e.state == "w" else update.states[e.state].shape
        lines.append(f"    {e.state}_next = {source_of(e.expr, shape)}")
    lines.append(f"    return w_next, ({''.join(f'{n}_next, ' for n in names).strip()})")
    return "\n".join(lines)


def _rate(name: str, expr: sp.Expr, a: list[Quantity], rates: dict[Quantity, Quantity]) -> str:
    """D expr/dt for given rates of the accumulators; each term is 0 where its rate is 0, though the slope be infinite."""
    lines = [f"def {name}(hyper, a, a_dot):", *_unpack({"a": a, "a_dot": list(rates.values())})]
    hypers = sorted(expr.free_symbols - set(a), key=str)
    lines += [f"    {s.name} = hyper.{s.name}" for s in hypers]
    shape = shape_of(expr)
    terms = []
    for s in a:
        if any(s in r.free_symbols for r in expr.atoms(Node)):
            terms.append(source_of(directional(expr, {s: rates[s]}), shape))
        elif expr.has(s):
            slope, rate = (source_of(e, shape) for e in (local_derivative(expr, s, name), rates[s]))
            terms.append(f"along({slope}, {rate})")
    return "\n".join([*lines, f"    return {' + '.join(terms) or '0.0'}"])


def _solve_implicit(jacobian: sp.Matrix, right: list[Quantity]) -> list[sp.Expr]:
    if not right:
        return []
    system = sp.eye(len(right)) - h * jacobian
    return list(system.LUsolve(sp.Matrix(right)).applyfunc(sp.factor))
