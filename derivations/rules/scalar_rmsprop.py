"""RMSProp with one second moment for all parameters."""

from theory import counter, hyper, norm2, option, scalar, sqrt, update_rule
from theory.symbols import HSH, S, Total, g, gradS


@update_rule(
    lr=hyper("(0, oo)"),
    beta2=hyper("[0, 1)", default=0.99),
    eps=hyper("[0, oo)", default=1e-8),
    nu=scalar(nonnegative=True),
    t=counter(),
    bias_correction=option(False),
    references=(
        "Cohen, Damian, Talwalkar, Kolter, Lee: Understanding Optimization in Deep Learning with Central Flows, ICLR 2025.",
    ),
)
def scalar_rmsprop(s):
    """Scalar RMSProp: the step size adapts to the gradient's norm."""
    s.t = s.t + 1
    s.nu = s.beta2 * s.nu + (1 - s.beta2) * norm2(s.g)
    nu_hat = s.nu / (1 - s.beta2**s.t) if s.bias_correction else s.nu
    s.w = s.w - s.lr * s.g / (sqrt(nu_hat) + s.eps)


@scalar_rmsprop.with_published
def published(d):
    """[CF] section 4.1, where ε = 0: threshold, ν̇, step 2/S at the edge, and the variance along the top eigenvector."""
    lr, beta2, eps = (d.rule_symbol(name) for name in ("lr", "beta2", "eps"))
    nu, c = d.rule_symbol("nu"), (1 - beta2) / beta2
    edge = d.complementarity.at_edge[nu].subs(eps, 0)
    numerator = c * (lr**2 * S**2 / 4 - Total(g**2)) - lr**2 * Total(g * gradS)
    return {
        "threshold": (d.threshold, 2),
        "rate of nu": (d.flow.a_average(nu), c * (Total(g**2) + Total(HSH) - nu)),
        "step at the edge": ((1 / d.preconditioner).subs(eps, 0).subs(nu, edge), 2 / S),
        "variance": (d.complementarity.variance.subs(eps, 0), numerator / (c * S**2 + lr**2 * Total(gradS**2) / 2)),
    }
