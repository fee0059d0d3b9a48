"""Lion."""

from theory import hyper, per_parameter, sign, update_rule


@update_rule(
    lr=hyper("(0, oo)", default=1e-4),
    beta1=hyper("[0, 1)", default=0.9),
    beta2=hyper("[0, 1)", default=0.99),
    weight_decay=hyper("[0, oo)", default=0.0),
    m=per_parameter(),
    refused="not differentiable",
    references=("Chen, Liang, Huang, et al.: Symbolic Discovery of Optimization Algorithms, NeurIPS 2023.",),
)
def lion(s):
    """Lion: the sign of an interpolated momentum."""
    direction = sign(s.beta1 * s.m + (1 - s.beta1) * s.g)
    s.m = s.beta2 * s.m + (1 - s.beta2) * s.g
    s.w = s.w - s.lr * s.weight_decay * s.w - s.lr * direction
