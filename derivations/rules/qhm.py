"""Quasi-hyperbolic momentum."""

from theory import hyper, per_parameter, update_rule


@update_rule(
    lr=hyper("(0, oo)"),
    momentum=hyper("[0, 1)", default=0.9),
    weight=hyper("[0, 1]", default=0.7),
    m=per_parameter(),
    references=("Ma, Yarats: Quasi-hyperbolic momentum and Adam for deep learning, ICLR 2019.",),
)
def qhm(s):
    """Quasi-hyperbolic momentum: the plain gradient and its moving average, mixed by a weight."""
    s.m = s.momentum * s.m + (1 - s.momentum) * s.g
    s.w = s.w - s.lr * ((1 - s.weight) * s.g + s.weight * s.m)
