"""Adam with one step size for all parameters."""

from theory import counter, hyper, norm2, per_parameter, scalar, sqrt, update_rule


@update_rule(
    lr=hyper("(0, oo)", default=1e-3),
    beta1=hyper("[0, 1)", default=0.9),
    beta2=hyper("[0, 1)", default=0.999),
    eps=hyper("[0, oo)", default=1e-8),
    m=per_parameter(),
    nu=scalar(nonnegative=True),
    t=counter(),
    references=(
        "Kingma, Ba: Adam: A Method for Stochastic Optimization, ICLR 2015.",
        "Cohen, Ghorbani, Krishnan, Agarwal, et al.: Adaptive Gradient Methods at the Edge of Stability, 2022.",
    ),
)
def scalar_adam(s):
    """Adam whose second moment is that of the gradient's norm."""
    s.t = s.t + 1
    s.m = s.beta1 * s.m + (1 - s.beta1) * s.g
    s.nu = s.beta2 * s.nu + (1 - s.beta2) * norm2(s.g)
    m_hat, nu_hat = s.m / (1 - s.beta1**s.t), s.nu / (1 - s.beta2**s.t)
    s.w = s.w - s.lr * m_hat / (sqrt(nu_hat) + s.eps)


@scalar_adam.with_published
def published(d):
    """After the bias correction has died out, 2(1 + β₁)/(1 − β₁) (Cohen et al. 2022, equation 1: 38/η at β₁ = 0.9)."""
    beta1 = d.rule_symbol("beta1")
    return {"threshold as t grows": (d.limit(d.threshold), 2 * (1 + beta1) / (1 - beta1))}
