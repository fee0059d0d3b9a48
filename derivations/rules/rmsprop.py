"""RMSProp."""

from theory import counter, hyper, option, per_parameter, sqrt, update_rule
from theory.symbols import HSH, P_diagonal, Sigma, g


@update_rule(
    lr=hyper("(0, oo)"),
    beta2=hyper("[0, 1)", default=0.99),
    eps=hyper("[0, oo)", default=1e-8),
    nu=per_parameter(nonnegative=True),
    t=counter(),
    bias_correction=option(False),
    references=(
        "Cohen, Damian, Talwalkar, Kolter, Lee: Understanding Optimization in Deep Learning with Central Flows, ICLR 2025.",
        "Tieleman, Hinton: Lecture 6.5 - RMSProp, Coursera: Neural Networks for Machine Learning, 2012.",
    ),
)
def rmsprop(s):
    """RMSProp, as torch.optim.RMSprop (alpha is beta2; ε outside the root), optionally with bias correction."""
    s.t = s.t + 1
    s.nu = s.beta2 * s.nu + (1 - s.beta2) * s.g**2
    nu_hat = s.nu / (1 - s.beta2**s.t) if s.bias_correction else s.nu
    s.w = s.w - s.lr * s.g / (sqrt(nu_hat) + s.eps)


@rmsprop.with_published
def published(d):
    """[CF] section 4.2, where ε = 0: threshold, and ν̇ with (HΣH)_ii = λ*²P_i²Σ_ii = (4ν/η²)Σ_ii."""
    lr, beta2, eps = (d.rule_symbol(name) for name in ("lr", "beta2", "eps"))
    nu = d.rule_symbol("nu")
    at_edge = {HSH: d.threshold**2 * P_diagonal**2 * Sigma}
    rate = d.flow.a_average(nu).subs(at_edge).subs(P_diagonal, d.preconditioner).subs(eps, 0)
    return {
        "threshold": (d.threshold, 2),
        "rate of nu": (rate, (1 - beta2) / beta2 * (g**2 + 4 * nu / lr**2 * Sigma - nu)),
    }
