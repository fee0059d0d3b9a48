"""Muon."""

from theory import hyper, matrix_sign, per_parameter, update_rule


@update_rule(
    lr=hyper("(0, oo)", default=2e-2),
    momentum=hyper("[0, 1)", default=0.95),
    m=per_parameter(),
    refused="not differentiable",
    references=("Jordan, Jin, Boza, et al.: Muon: An optimizer for hidden layers in neural networks, 2024.",),
)
def muon(s):
    """Muon: the momentum of each weight matrix, its singular values replaced by one."""
    s.m = s.momentum * s.m + s.g
    s.w = s.w - s.lr * matrix_sign(s.m)
