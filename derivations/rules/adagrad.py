"""AdaGrad."""

from theory import hyper, per_parameter, sqrt, update_rule


@update_rule(
    lr=hyper("(0, oo)", default=1e-2),
    eps=hyper("[0, oo)", default=1e-10),
    nu=per_parameter(nonnegative=True),
    references=("Duchi, Hazan, Singer: Adaptive Subgradient Methods, JMLR 2011.",),
)
def adagrad(s):
    """AdaGrad, as torch.optim.Adagrad: the preconditioner grows by every gradient."""
    s.nu = s.nu + s.g**2
    s.w = s.w - s.lr * s.g / (sqrt(s.nu) + s.eps)
