"""NAdam."""

from theory import Rational, counter, hyper, per_parameter, scalar, sqrt, update_rule


@update_rule(
    lr=hyper("(0, oo)", default=2e-3),
    beta1=hyper("[0, 1)", default=0.9),
    beta2=hyper("[0, 1)", default=0.999),
    eps=hyper("[0, oo)", default=1e-8),
    momentum_decay=hyper("(0, oo)", default=4e-3),
    m=per_parameter(),
    nu=per_parameter(nonnegative=True),
    mu_product=scalar(initial=1.0, domain="(0, 1]"),
    t=counter(),
    references=("Dozat: Incorporating Nesterov Momentum into Adam, ICLR workshop 2016.",),
)
def nadam(s):
    """NAdam, as torch.optim.NAdam: the weight of the momentum grows slowly from β₁/2 to β₁."""

    def weight(t):
        return s.beta1 * (1 - Rational(96, 100) ** (t * s.momentum_decay) / 2)

    s.t = s.t + 1
    s.mu_product = s.mu_product * weight(s.t)
    s.m = s.beta1 * s.m + (1 - s.beta1) * s.g
    s.nu = s.beta2 * s.nu + (1 - s.beta2) * s.g**2
    now = (1 - weight(s.t)) / (1 - s.mu_product)
    ahead = weight(s.t + 1) / (1 - s.mu_product * weight(s.t + 1))
    s.w = s.w - s.lr * (now * s.g + ahead * s.m) / (sqrt(s.nu / (1 - s.beta2**s.t)) + s.eps)
