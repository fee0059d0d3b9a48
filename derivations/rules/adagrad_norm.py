"""AdaGrad with one step size for all parameters."""

from theory import hyper, norm2, scalar, sqrt, update_rule


@update_rule(
    lr=hyper("(0, oo)", default=1.0),
    eps=hyper("[0, oo)", default=1e-10),
    nu=scalar(nonnegative=True),
    references=("Ward, Wu, Bottou: AdaGrad stepsizes: Sharp convergence over nonconvex landscapes, JMLR 2020.",),
)
def adagrad_norm(s):
    """AdaGrad-Norm: the step size shrinks with the sum of squared gradient norms."""
    s.nu = s.nu + norm2(s.g)
    s.w = s.w - s.lr * s.g / (sqrt(s.nu) + s.eps)
