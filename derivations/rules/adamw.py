"""Adam with decoupled weight decay."""

from theory import counter, hyper, per_parameter, sqrt, update_rule


@update_rule(
    lr=hyper("(0, oo)", default=1e-3),
    beta1=hyper("[0, 1)", default=0.9),
    beta2=hyper("[0, 1)", default=0.999),
    eps=hyper("[0, oo)", default=1e-8),
    weight_decay=hyper("[0, oo)", default=1e-2),
    m=per_parameter(),
    nu=per_parameter(nonnegative=True),
    t=counter(),
    references=(
        "Kingma, Ba: Adam: A Method for Stochastic Optimization, ICLR 2015.",
        "Cohen, Ghorbani, Krishnan, Agarwal, et al.: Adaptive Gradient Methods at the Edge of Stability, 2022.",
        "Loshchilov, Hutter: Decoupled Weight Decay Regularization, ICLR 2019.",
    ),
)
def adamw(s):
    """AdamW, as torch.optim.AdamW."""
    s.t = s.t + 1
    s.m = s.beta1 * s.m + (1 - s.beta1) * s.g
    s.nu = s.beta2 * s.nu + (1 - s.beta2) * s.g**2
    m_hat, nu_hat = s.m / (1 - s.beta1**s.t), s.nu / (1 - s.beta2**s.t)
    s.w = s.w - s.lr * s.weight_decay * s.w - s.lr * m_hat / (sqrt(nu_hat) + s.eps)
