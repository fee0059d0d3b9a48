"""Gradient descent with Nesterov momentum."""

import sympy as sp

from theory import hyper, per_parameter, update_rule


@update_rule(
    lr=hyper("(0, oo)"),
    momentum=hyper("[0, 1)", default=0.9),
    m=per_parameter(),
    references=(
        "Nesterov: A method for solving the convex programming problem with convergence rate O(1/k^2), 1983.",
        "Cohen, Kaur, Li, Kolter, Talwalkar: Gradient Descent on Neural Networks Typically Occurs at the Edge of Stability, ICLR 2021.",
    ),
)
def nesterov(s):
    """Nesterov momentum, as torch.optim.SGD with nesterov=True."""
    s.m = s.momentum * s.m + s.g
    s.w = s.w - s.lr * (s.g + s.momentum * s.m)


@nesterov.with_published
def published(d):
    """The largest stable sharpness, (2/η)(1 + β)/(1 + 2β) (Cohen et al. 2021, appendix B)."""
    lr, beta = d.rule_symbol("lr"), d.rule_symbol("momentum")
    return {
        "largest stable sharpness": (sp.factor(d.threshold * d.preconditioner), 2 * (1 + beta) / (lr * (1 + 2 * beta)))
    }
