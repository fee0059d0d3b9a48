"""RMSProp with momentum on the preconditioned gradient."""

from theory import hyper, per_parameter, sqrt, update_rule


@update_rule(
    lr=hyper("(0, oo)", default=1e-2),
    beta2=hyper("[0, 1)", default=0.99),
    momentum=hyper("[0, 1)", default=0.9),
    eps=hyper("[0, oo)", default=1e-8),
    nu=per_parameter(nonnegative=True),
    m=per_parameter(),
    slow_preconditioner=True,
    references=("Tieleman, Hinton: Lecture 6.5 - RMSProp, Coursera: Neural Networks for Machine Learning, 2012.",),
)
def rmsprop_momentum(s):
    """RMSProp with momentum, as torch.optim.RMSprop(momentum=...): the filter acts on the preconditioned gradient."""
    s.nu = s.beta2 * s.nu + (1 - s.beta2) * s.g**2
    s.m = s.momentum * s.m + s.g / (sqrt(s.nu) + s.eps)
    s.w = s.w - s.lr * s.m
