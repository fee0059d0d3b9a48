r"""The catalogue: every symbol's SymPy object, LaTeX, code name, shape and meaning, in one place.

An n-dimensional object is written by its generic coordinate: ``g`` stands for g_i. What mixes coordinates is an explicit
node (`Total`, `BlockTotal`), so that ordinary SymPy calculus in the scalars is calculus in R^n.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

import sympy as sp


class Shape(enum.IntEnum):
    """How many numbers a quantity has; a larger shape absorbs a smaller one."""

    SCALAR = 0  # one number
    BLOCK = 1  # one number per parameter tensor
    PARAMETER = 2  # one number per parameter
    MATRIX = 3  # one number per pair of parameters


class Quantity(sp.Symbol):
    """A real symbol whose class says its shape (SymPy caches symbols by class, name and assumptions)."""

    __slots__ = ()
    shape = Shape.SCALAR


class ScalarQuantity(Quantity):
    """One number, such as a hyperparameter or the step counter."""

    __slots__ = ()


class BlockQuantity(Quantity):
    """One number per parameter tensor."""

    __slots__ = ()
    shape = Shape.BLOCK


class ParameterQuantity(Quantity):
    """The generic coordinate of a vector in R^n."""

    __slots__ = ()
    shape = Shape.PARAMETER


class MatrixQuantity(Quantity):
    """The generic entry of a symmetric matrix in R^(n×n); linear expressions in it are expressions of the matrix."""

    __slots__ = ()
    shape = Shape.MATRIX


_CLASSES = {
    Shape.SCALAR: ScalarQuantity,
    Shape.BLOCK: BlockQuantity,
    Shape.PARAMETER: ParameterQuantity,
    Shape.MATRIX: MatrixQuantity,
}


def quantity(code: str, shape: Shape, **assumptions: bool) -> Quantity:
    """Make the symbol with this code name and shape; real unless stronger assumptions are given."""
    return _CLASSES[shape](code, **({"real": True} | assumptions))


def shape_of(expr: sp.Expr) -> Shape:
    """Shape of an expression: the largest of its parts, where a node counts by its result."""
    if isinstance(expr, Quantity):
        return expr.shape
    if isinstance(expr, Node):
        return type(expr).shape
    return max((shape_of(a) for a in expr.args), default=Shape.SCALAR)


class Node(sp.Function):
    """What mixes coordinates, with the shape of its result."""

    shape = Shape.SCALAR


class Reduction(Node):
    """A sum over coordinates, linear in its argument; factors of at most the result's shape are pulled out."""

    @classmethod
    def eval(cls, arg: sp.Expr) -> sp.Expr | None:
        """Canonical form: expanded over sums, with factors of at most the result's shape outside, as they were written."""
        if arg.is_zero:
            return sp.S.Zero
        outer = [f for f in sp.Mul.make_args(arg) if shape_of(f) <= cls.shape]
        inner = [f for f in sp.Mul.make_args(arg) if shape_of(f) > cls.shape]
        if outer and outer != [sp.S.One]:
            return sp.Mul(*outer) * cls(sp.Mul(*inner))
        back: dict[sp.Dummy, sp.Expr] = {}
        expanded = arg if arg.is_Add else sp.expand(_held(arg, cls.shape, back))
        if expanded.is_Add:
            return sp.Add(*[cls(term.xreplace(back)) for term in expanded.args])
        expanded = expanded.xreplace(back)
        return None if expanded == arg else cls(expanded)

    def _eval_derivative(self, s: sp.Symbol) -> sp.Expr:
        assert shape_of(s) <= type(self).shape, (
            "differentiate along a direction (calculus.directional), not by a coordinate"
        )
        return type(self)(sp.diff(self.args[0], s))

    def _eval_is_real(self) -> bool | None:
        return self.args[0].is_real

    def _eval_is_nonnegative(self) -> bool | None:
        return self.args[0].is_nonnegative

    def _eval_is_positive(self) -> bool | None:
        return self.args[0].is_positive


def _held(expr: sp.Expr, shape: Shape, back: dict[sp.Dummy, sp.Expr]) -> sp.Expr:
    """The expression with sums of at most a shape as opaque numbers, which are not multiplied out."""
    if not expr.has(sp.Add):
        return expr
    if shape_of(expr) <= shape:
        held = sp.Dummy(real=expr.is_real, positive=expr.is_positive)
        back[held] = expr
        return held
    if not isinstance(expr, sp.Mul | sp.Add):
        return expr.func(*(_held(a, shape, back) for a in expr.args))
    flat = [a for a in expr.args if shape_of(a) <= shape]
    rest = [_held(a, shape, back) for a in expr.args if shape_of(a) > shape]
    return expr.func(_held(expr.func(*flat), shape, back), *rest)


class Total(Reduction):
    r"""∑_j over all coordinates: ⟨a, b⟩ = Total(a·b), ‖g‖² = Total(g²), n = Total(1)."""


class BlockTotal(Reduction):
    r"""∑_j over the coordinates of one parameter tensor."""

    shape = Shape.BLOCK


@dataclass(frozen=True)
class Entry:
    """One line of the catalogue."""

    latex: str
    meaning: str


CATALOGUE: dict[str, Entry] = {
    "w": Entry("w", "parameters"),
    "g": Entry("g", "gradient ∇L of the full-batch training loss"),
    "P": Entry("P", "preconditioner, positive, a function of the accumulators"),
    "z": Entry("z", "variable of the transfer function"),
    "lam": Entry(r"\lambda", "eigenvalue of the effective Hessian P⁻¹H"),
    "h": Entry("h", "length of a flow step in optimizer steps"),
    "epsilon_": Entry(r"\varepsilon", "formal order of the oscillation"),
    "y": Entry("y", "oscillation of the gradient, Hδ"),
    "y2": Entry("y'", "oscillation of the gradient along a second mode"),
    "q": Entry("q", "∇⟨H,Σ⟩, the gradient of curvature weighted by the oscillation"),
    "Sigma": Entry(r"\Sigma", "diag Σ, the variance of the oscillation per coordinate"),
    "HSH": Entry(r"(H\Sigma H)", "diag HΣH, the variance of the gradient's oscillation per coordinate"),
    "HSigmaH": Entry(r"H\Sigma H", "covariance of the gradient's oscillation"),
    "SigmaMatrix": Entry(r"\Sigma", "covariance of the oscillation about the averaged iterate"),
    "wdot": Entry(r"\dot w", "velocity of the flow"),
    "Pdot": Entry(r"\dot P", "rate of change of the preconditioner"),
    "u": Entry("u", "critical mode, uᵀPu = 1"),
    "v": Entry("v", "a second critical mode"),
    "T": Entry("T", "third derivative ∇H[u,u] along the critical mode"),
    "X": Entry("X", "oscillation covariance on the critical modes, Σ = UXUᵀ"),
    "S": Entry("S", "sharpness, the top eigenvalue of H"),
    "gradS": Entry(r"\nabla S", "gradient of the sharpness"),
    "sigma2": Entry(r"\sigma^2", "variance of the oscillation along the top eigenvector"),
    "lr": Entry(r"\eta", "learning rate"),
    "beta": Entry(r"\beta", "decay of the momentum"),
    "beta1": Entry(r"\beta_1", "decay of the momentum"),
    "beta2": Entry(r"\beta_2", "decay of the second moment"),
    "momentum": Entry(r"\beta", "decay of the momentum"),
    "eps": Entry(r"\epsilon", "numerical offset of the preconditioner"),
    "weight_decay": Entry(r"\mathrm{wd}", "weight decay"),
    "gamma": Entry(r"\gamma", "decoupled decay per step"),
    "nu": Entry(r"\nu", "second-moment accumulator"),
    "V": Entry("V", "second-moment matrix, symmetric and positive semidefinite"),
    "m": Entry("m", "momentum"),
    "t": Entry("t", "step counter"),
    "mu_product": Entry(r"\Pi", "product of the momentum's weights so far"),
    "momentum_decay": Entry(r"\psi", "rate at which the momentum's weight grows"),
}


def latex_name(code: str) -> str:
    """LaTeX of a code name: from the catalogue, or spelled from the name itself."""
    if code.endswith("_next"):
        return latex_name(code[:-5]) + "^{+}"
    if code.endswith("_dot"):
        return rf"\dot{{{latex_name(code[:-4])}}}"
    if code in CATALOGUE:
        return CATALOGUE[code].latex
    return sp.latex(sp.Symbol(code))


def hyper_symbol(code: str, *, positive: bool, nonnegative: bool) -> Quantity:
    """A hyperparameter's symbol, with the sign that its domain implies."""
    return quantity(
        code, Shape.SCALAR, **({"positive": True} if positive else {"nonnegative": True} if nonnegative else {})
    )


def _vector(code: str, **assumptions: bool) -> Quantity:
    return quantity(code, Shape.PARAMETER, **assumptions)


def _scalar(code: str, **assumptions: bool) -> Quantity:
    return quantity(code, Shape.SCALAR, **assumptions)


w, g, y, y2, q, u, v, T, gradS, wdot, Pdot = map(
    _vector, ("w", "g", "y", "y2", "q", "u", "v", "T", "gradS", "wdot", "Pdot")
)
HSH, Sigma = _vector("HSH", nonnegative=True), _vector("Sigma", nonnegative=True)
P_diagonal = _vector("P", positive=True)
HSH_matrix, Sigma_matrix, P_matrix = (quantity(c, Shape.MATRIX) for c in ("HSigmaH", "SigmaMatrix", "P"))
X, S, sigma2, h, lam = (
    _scalar(c, **a)
    for c, a in (
        ("X", {"nonnegative": True}),
        ("S", {"positive": True}),
        ("sigma2", {"nonnegative": True}),
        ("h", {"positive": True}),
        ("lam", {"positive": True}),
    )
)
epsilon = _scalar("epsilon_")
z = sp.Symbol("z")
