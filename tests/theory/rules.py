"""Rules declared for the tests only; none is registered."""

from theory import counter, hyper, norm2, per_parameter, scalar, sqrt, update_rule


@update_rule(lr=hyper("(0, oo)"), beta=hyper("[0, 1)"), m=per_parameter())
def heavy_ball(s):
    s.m = s.beta * s.m + s.g
    s.w = s.w - s.lr * s.m


@update_rule(lr=hyper("(0, oo)"), beta=hyper("[0, 1)"), m=per_parameter())
def ema_heavy_ball(s):
    s.m = s.beta * s.m + (1 - s.beta) * s.g
    s.w = s.w - s.lr * s.m


@update_rule(lr=hyper("(0, oo)"), beta=hyper("[0, 1)"), m=per_parameter())
def nesterov(s):
    s.m = s.beta * s.m + s.g
    s.w = s.w - s.lr * (s.g + s.beta * s.m)


@update_rule(lr=hyper("(0, oo)"), beta=hyper("[0, 1)"), weight=hyper("[0, 1]"), m=per_parameter())
def quasi_hyperbolic(s):
    s.m = s.beta * s.m + (1 - s.beta) * s.g
    s.w = s.w - s.lr * ((1 - s.weight) * s.g + s.weight * s.m)


@update_rule(lr=hyper("(0, oo)"), pole1=hyper("[0, 1)"), pole2=hyper("[0, 1)"), m=per_parameter(), k=per_parameter())
def two_poles(s):
    s.m = s.pole1 * s.m + (1 - s.pole1) * s.g
    s.k = s.pole2 * s.k + (1 - s.pole2) * s.m
    s.w = s.w - s.lr * s.k


@update_rule(lr=hyper("(0, oo)"), nu=per_parameter(nonnegative=True), eps=hyper("[0, oo)"))
def adagrad(s):
    s.nu = s.nu + s.g**2
    s.w = s.w - s.lr * s.g / (sqrt(s.nu) + s.eps)


@update_rule(lr=hyper("(0, oo)"), beta2=hyper("[0, 1)"), nu=per_parameter(nonnegative=True), t=counter())
def corrected(s):
    s.t = s.t + 1
    s.nu = s.beta2 * s.nu + (1 - s.beta2) * s.g**2
    s.w = s.w - s.lr * s.g / sqrt(s.nu / (1 - s.beta2**s.t))


@update_rule(
    lr=hyper("(0, oo)"),
    beta1=hyper("[0, 1)"),
    beta2=hyper("[0, 1)"),
    eps=hyper("[0, oo)"),
    m=per_parameter(),
    nu=per_parameter(nonnegative=True),
)
def adabelief(s):
    s.m = s.beta1 * s.m + (1 - s.beta1) * s.g
    s.nu = s.beta2 * s.nu + (1 - s.beta2) * (s.g - s.m) ** 2
    s.w = s.w - s.lr * s.m / (sqrt(s.nu) + s.eps)


@update_rule(
    lr=hyper("(0, oo)"), beta2=hyper("[0, 1)"), nu=per_parameter(nonnegative=True), weight_decay=hyper("[0, oo)")
)
def norm_and_decay(s):
    s.nu = s.beta2 * s.nu + (1 - s.beta2) * s.g**2
    s.w = s.w - s.lr * s.weight_decay * s.w - s.lr * s.g / sqrt(s.nu + norm2(1))


@update_rule(
    lr=hyper("(0, oo)"),
    beta1=hyper("[0, 1)"),
    beta2=hyper("[0, 1)"),
    eps=hyper("[0, oo)"),
    m=per_parameter(),
    nu=scalar(nonnegative=True),
    t=counter(),
)
def half_corrected(s):
    """Only the momentum is corrected, so that λ* depends on time and P does not."""
    s.t = s.t + 1
    s.m = s.beta1 * s.m + (1 - s.beta1) * s.g
    s.nu = s.beta2 * s.nu + (1 - s.beta2) * norm2(s.g)
    s.w = s.w - s.lr * s.m / (1 - s.beta1**s.t) / (sqrt(s.nu) + s.eps)
