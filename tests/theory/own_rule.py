"""A rule that no library has: cube root of a block-wise second moment, with a learning rate that decays in time."""

from theory import block_norm2, cbrt, counter, exp, hyper, per_block, update_rule


@update_rule(
    lr=hyper("(0, oo)"),
    beta2=hyper("[0, 1)", default=0.99),
    eps=hyper("(0, oo)", default=1e-6),
    nu=per_block(nonnegative=True),
    t=counter(),
)
def own_rule(s):
    """Block-wise normalised descent, P = (ν^{1/3} + ε)/η(t); ν₀ = 0."""
    s.t = s.t + 1
    s.nu = s.beta2 * s.nu + (1 - s.beta2) * block_norm2(s.g)
    s.w = s.w - s.lr * exp(-s.t / 200) * s.g / (cbrt(s.nu) + s.eps)
