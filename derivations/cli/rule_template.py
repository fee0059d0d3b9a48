# mypy: allow-untyped-defs
"""An update rule of your own.

Edit this file; then, in a terminal:

centralflow derive my_rule.py                      # its central flow, or the reason why there is none
centralflow run --rule my_rule.py --lr 0.005       # trained beside the flows that predict it
"""

# Also there for use in a rule: norm2, total, mean (over all parameters), block_norm2, block_mean (over each parameter
# tensor), exp, log, cbrt, Rational, and the declarations scalar(), per_block() and counter(). For a full matrix over all
# parameters, in small models: the declaration matrix(), and outer, matrix_sqrt, identity and solve.
from theory import hyper, option, per_parameter, sqrt, update_rule
from theory.symbols import HSH, g


@update_rule(
    # Hyperparameters: the interval in which each may lie, and its default; without one it must be given to a run.
    lr=hyper("(0, oo)"),
    beta2=hyper("[0, 1)", default=0.99),
    eps=hyper("(0, oo)", default=1e-6),
    # States: per_parameter() has one number per parameter, per_block() one per parameter tensor, scalar() one in all;
    # counter() counts steps from 0. The argument is the value before the first step (0 if left out); say
    # nonnegative=True where that always holds, so that roots can be simplified. Whether a state is momentum or a slow
    # accumulator is found by differentiation, not declared.
    nu=per_parameter(nonnegative=True),
    # Options: switches of the rule, on or off: centralflow derive my_rule.py --option eps_inside
    eps_inside=option(False),
    # Literature, in full; it closes every document.
    references=(),
)
def my_rule(s):
    """One sentence on what the rule does; here, RMSProp: each gradient is divided by its root mean square."""
    # s.g is the gradient, s.w the parameters. Assigning a state makes its new value; reading it afterwards gives that new
    # value. Assign w and each state once. Use local variables for the rest, and no `if` but on options: the function
    # runs on symbols.
    s.nu = s.beta2 * s.nu + (1 - s.beta2) * s.g**2
    scale = sqrt(s.nu + s.eps**2) if s.eps_inside else sqrt(s.nu) + s.eps
    s.w = s.w - s.lr * s.g / scale


# Published results that the derivation must reproduce, as name: (derived, published). For an installed rule the tests assert
# that SymPy finds each difference to be zero. Leave this out if there are none.
@my_rule.with_published
def published(d):
    """Name the source here, with equation numbers."""
    beta2, nu = d.rule_symbol("beta2"), d.rule_symbol("nu")
    return {
        "threshold": (d.threshold, 2),
        "rate of nu": (d.flow.a_average(nu), (1 - beta2) / beta2 * (g**2 + HSH - nu)),
    }
