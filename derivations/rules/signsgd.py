"""Sign descent."""

from theory import hyper, sign, update_rule


@update_rule(
    lr=hyper("(0, oo)"),
    refused="not differentiable",
    references=(
        "Bernstein, Wang, Azizzadenesheli, Anandkumar: signSGD: Compressed Optimisation for Non-Convex Problems, ICML 2018.",
    ),
)
def signsgd(s):
    """Sign descent: a step of fixed size in each coordinate."""
    s.w = s.w - s.lr * sign(s.g)
