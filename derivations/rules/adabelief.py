"""AdaBelief."""

from theory import counter, hyper, per_parameter, sqrt, update_rule


@update_rule(
    lr=hyper("(0, oo)", default=1e-3),
    beta1=hyper("[0, 1)", default=0.9),
    beta2=hyper("[0, 1)", default=0.999),
    eps=hyper("[0, oo)", default=1e-16),
    m=per_parameter(),
    nu=per_parameter(nonnegative=True),
    t=counter(),
    references=(
        "Zhuang, Tang, Ding, et al.: AdaBelief Optimizer: Adapting Stepsizes by the Belief in Observed Gradients, NeurIPS 2020.",
    ),
)
def adabelief(s):
    """AdaBelief: the second moment of the gradient's deviation from its own moving average."""
    s.t = s.t + 1
    s.m = s.beta1 * s.m + (1 - s.beta1) * s.g
    s.nu = s.beta2 * s.nu + (1 - s.beta2) * (s.g - s.m) ** 2 + s.eps
    m_hat, nu_hat = s.m / (1 - s.beta1**s.t), s.nu / (1 - s.beta2**s.t)
    s.w = s.w - s.lr * m_hat / (sqrt(nu_hat) + s.eps)
