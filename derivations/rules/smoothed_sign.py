"""Sign descent with a smooth sign."""

from theory import hyper, per_parameter, sqrt, update_rule


@update_rule(
    lr=hyper("(0, oo)", default=1e-3),
    beta2=hyper("[0, 1)", default=0.9),
    eps=hyper("(0, oo)", default=1e-3),
    nu=per_parameter(nonnegative=True),
    references=(
        "Bernstein, Wang, Azizzadenesheli, Anandkumar: signSGD: Compressed Optimisation for Non-Convex Problems, ICML 2018.",
    ),
)
def smoothed_sign(s):
    """Smoothed sign descent: g/√(g² + ε²) in each coordinate, with g² in the root averaged over recent steps.

    The average is what gives the step a preconditioner; as beta2 falls to 0 it becomes g/√(g² + ε²) itself, which has none.
    """
    s.nu = s.beta2 * s.nu + (1 - s.beta2) * s.g**2
    s.w = s.w - s.lr * s.g / sqrt(s.nu + s.eps**2)
