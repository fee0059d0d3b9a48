"""Gradient descent with heavy-ball momentum."""

import sympy as sp

from theory import hyper, option, per_parameter, update_rule


@update_rule(
    lr=hyper("(0, oo)"),
    momentum=hyper("[0, 1)", default=0.9),
    dampening=hyper("[0, 1)", default=0.0),
    m=per_parameter(),
    ema=option(False),
    references=(
        "Polyak: Some methods of speeding up the convergence of iteration methods, 1964.",
        "Cohen, Kaur, Li, Kolter, Talwalkar: Gradient Descent on Neural Networks Typically Occurs at the Edge of Stability, ICLR 2021.",
        "Kovachki, Stuart: Continuous Time Analysis of Momentum Methods, JMLR 2021.",
    ),
)
def heavy_ball(s):
    """Heavy ball, as torch.optim.SGD with momentum; ema sets the dampening equal to the momentum.

    torch starts with m = g in the first step, which is the state m = g·dampening/momentum before it.
    """
    dampening = s.momentum if s.ema else s.dampening
    s.m = s.momentum * s.m + (1 - dampening) * s.g
    s.w = s.w - s.lr * s.m


@heavy_ball.with_published
def published(d):
    """The largest stable sharpness, 2(1 + β)/η (Cohen et al. 2021, appendix B), hence λ* = 2(1 + β)/(1 − β) with P = (1 − β)/η."""
    lr, beta, dampening = (d.rule_symbol(n) for n in ("lr", "momentum", "dampening"))
    sharpness = (d.threshold * d.preconditioner).subs(dampening, 0)
    return {"largest stable sharpness": (sp.factor(sharpness), 2 * (1 + beta) / lr)}
