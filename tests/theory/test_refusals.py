"""What does not fit is refused in one sentence that names the term; each rule here is outside for one reason."""

import math

import pytest
import sympy as sp

from theory import RuleRefused, derive, hyper, norm2, per_parameter, scalar, sqrt, total, update_rule
from theory.registry import load_rule

LR = {"lr": hyper("(0, oo)")}
EMA = LR | {"beta2": hyper("[0, 1)"), "nu": per_parameter(nonnegative=True)}


def ema(s, x):
    s.nu = s.beta2 * s.nu + (1 - s.beta2) * x


def sign(s):
    s.w = s.w - s.lr * sp.sign(s.g)


def maximum(s):
    s.nu = sp.Max(s.beta2 * s.nu, s.g**2)
    s.w = s.w - s.lr * s.g / sqrt(s.nu)


def undeclared(s):
    s.w = s.w - s.lr * s.g * s.scale


def foreign_symbol(s):
    s.w = s.w - s.lr * s.g * math.sqrt(s.lr)


def branch(s):
    s.w = s.w - s.lr * s.g if s.g > 0 else s.w


def unassigned_state(s):
    s.w = s.w - s.lr * s.g


def unassigned_w(s):
    ema(s, s.g**2)


def twice(s):
    ema(s, s.g**2)
    s.nu = s.nu + 1
    s.w = s.w - s.lr * s.g / sqrt(s.nu)


def assigns_hyper(s):
    s.lr = 1
    s.w = s.w - s.g


def assigns_gradient(s):
    s.g = 1
    s.w = s.w - s.g


def assigns_text(s):
    s.w = "w"


def no_memory(s):
    s.nu = s.g**2
    s.w = s.w - s.lr * s.g / sqrt(s.nu)


def normalised(s):
    s.w = s.w - s.lr * s.g / sqrt(norm2(s.g))


def old_accumulator(s):
    s.w = s.w - s.lr * s.g / sqrt(s.nu)
    ema(s, s.g**2)


def state_reads_w(s):
    ema(s, s.w**2 * s.g**2)
    s.w = s.w - s.lr * s.g / sqrt(s.nu)


def nonlinear_step(s):
    s.w = s.w - s.lr * s.g**3


def neither(s):
    s.nu = s.nu + s.g + s.g**2
    s.w = s.w - s.lr * s.g


def growing_decay(s):
    s.w = s.w - s.lr * s.g - s.w**3


def vector_in_scalar(s):
    s.nu = s.beta2 * s.nu + s.g**2
    s.w = s.w - s.lr * s.g / sqrt(s.nu)


def reads_a_reduction(s):
    s.nu = s.beta2 * total(s.nu) + s.g**2
    s.w = s.w - s.lr * s.g / sqrt(s.nu)


def undeclared_symbol(s):
    s.w = s.w - s.lr * sp.Symbol("k") * s.g


def other_coordinate(s):
    ema(s, s.g[1] ** 2)
    s.w = s.w - s.lr * s.g / sqrt(s.nu)


def part_of_a_state(s):
    s.nu[0] = s.g**2


def tensor_method(s):
    s.nu.mul_(s.beta2)


def unknown_name(s):
    s.w = s.w - s.lr * s.g * no_such_name


def division_by_zero(s):
    s.w = s.w - s.lr * s.g / (s.lr - s.lr)


def nonlinear_filter(s):
    s.m = s.beta * s.m + s.g + s.m**2
    s.w = s.w - s.lr * s.m


def extrapolated(s):
    s.m = s.beta * s.m + (1 - s.beta) * s.g
    s.w = s.w - s.lr * (s.c * s.m + (1 - s.c) * s.g)


FILTER = LR | {"beta": hyper("[0, 1)"), "m": per_parameter()}
CASES = [
    (undeclared_symbol, LR, ("symbol k", "not declared", "line")),
    (other_coordinate, EMA, ("picks single entries", "total, norm2", "line")),
    (part_of_a_state, EMA, ("picks single entries", "line")),
    (tensor_method, EMA, ("cannot be evaluated on symbols", "mul_", "line")),
    (unknown_name, LR, ("no_such_name", "line")),
    (division_by_zero, LR, ("no number", "division by zero", "line")),
    (nonlinear_filter, FILTER, ("m**2", "neither a filter nor an accumulator", "line")),
    (extrapolated, FILTER | {"c": hyper("[0, 3]")}, ("changes sign", "positive at beta", "c = ", "line")),
    (sign, LR, ("not differentiable", "sign(g)", "line")),
    (maximum, EMA, ("not differentiable", "Max", "nu")),
    (undeclared, LR, ("s.scale", "not declared", "lr")),
    (foreign_symbol, LR, ("math.*", "theory's sqrt", "line")),
    (branch, LR, ("branches on values", "line")),
    (unassigned_state, EMA, ("never assigns s.nu",)),
    (unassigned_w, EMA, ("never assigns s.w",)),
    (twice, EMA, ("s.nu twice", "local variable")),
    (assigns_hyper, LR, ("s.lr", "a hyperparameter")),
    (assigns_gradient, LR, ("s.g", "the gradient")),
    (assigns_text, LR, ("str", "s.w", "expression")),
    (no_memory, EMA, ("without memory", "decay", "line")),
    (normalised, LR, ("not in normal form", "gradient")),
    (old_accumulator, EMA, ("old value of nu", "assign s.nu first")),
    (state_reads_w, EMA, ("nu depend on w",)),
    (nonlinear_step, LR, ("not linear", "g**3")),
    (neither, EMA, ("next value of nu", "neither")),
    (growing_decay, LR, ("not in normal form", "w enters its own step")),
    (vector_in_scalar, EMA | {"nu": scalar()}, ("one number per parameter", "reduce it")),
    (reads_a_reduction, EMA, ("reduction of the accumulator nu",)),
]


@pytest.mark.parametrize(("function", "declared", "words"), CASES, ids=[c[0].__name__ for c in CASES])
def test_refused(function, declared, words):
    with pytest.raises(RuleRefused) as refusal:
        derive(update_rule(**declared)(function))
    for word in (*words, function.__name__):
        assert word in str(refusal.value)


def centered(s):
    s.m = s.beta2 * s.m + (1 - s.beta2) * s.g
    ema(s, s.g**2)
    s.w = s.w - s.lr * s.g / sqrt(s.nu - s.m**2)


def test_preconditioner_that_reads_a_filter_is_refused():
    with pytest.raises(RuleRefused, match="P may depend on accumulators only"):
        derive(update_rule(m=per_parameter(), **EMA)(centered))


def momentum_after_preconditioner(s):
    ema(s, s.g**2)
    s.m = s.m / 2 + s.g / sqrt(s.nu)
    s.w = s.w - s.lr * s.m


def test_filter_after_a_moving_preconditioner_is_refused():
    with pytest.raises(RuleRefused, match="momentum_after_preconditioner"):
        derive(update_rule(m=per_parameter(), **EMA)(momentum_after_preconditioner))


@pytest.mark.parametrize(("name", "meaning"), [("w", "the parameters"), ("g", "the gradient")])
def test_reserved_names(name, meaning):
    with pytest.raises(RuleRefused, match=f"reserved for {meaning}"):
        update_rule(**{name: per_parameter()})


def test_unknown_declaration():
    with pytest.raises(RuleRefused, match=r"must be declared with hyper\(\)"):
        update_rule(lr=0.1)


@pytest.mark.parametrize("domain", ["0, 1", "(0 1)", "", "positive"])
def test_bad_domain(domain):
    with pytest.raises(RuleRefused, match="must be an interval"):
        hyper(domain)


def test_unknown_option():
    with pytest.raises(RuleRefused, match="no hyperparameter or option 'amsgrad'") as refusal:
        derive("gd", amsgrad=True)
    assert "lr" in str(refusal.value)


@pytest.mark.parametrize("schedule", ["0.1*(", "0.1*exp(-s/10)", "x", object()])
def test_bad_schedule(schedule):
    with pytest.raises(RuleRefused, match="schedule of lr"):
        derive("gd", lr=schedule)


def test_unknown_rule_suggests_the_nearest():
    with pytest.raises(RuleRefused, match="did you mean 'rmsprop'"):
        load_rule("rmspropp")


ONE = """from theory import hyper, update_rule
@update_rule(lr=hyper("(0, oo)"))
def one(s):
    s.w = s.w - s.lr * s.g
"""
TWO = ONE + "\n" + "\n".join(ONE.splitlines()[1:]).replace("one", "two")


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("def f(:", "syntax error in line 1"),
        ("x = 1", "exactly one rule"),
        ("import no_such_module_here", "cannot be imported"),
        (TWO, r"exactly one rule .* found 2 \(one, two\)"),
        (ONE.replace("one", "adam"), "'adam', line 2, which is the name of an installed rule"),
    ],
)
def test_bad_rule_file(tmp_path, source, words):
    path = tmp_path / "rule.py"
    path.write_text(source)
    with pytest.raises(RuleRefused, match=words):
        load_rule(path)


def test_missing_rule_file(tmp_path):
    with pytest.raises(RuleRefused, match="no rule file"):
        load_rule(tmp_path / "absent.py")


def test_an_installed_rule_is_found_by_its_own_path():
    from derivations.rules import adam

    assert load_rule(adam.__file__).name == "adam"


def test_no_interval_holds_nan():
    assert math.nan not in hyper("(0, oo)").domain
