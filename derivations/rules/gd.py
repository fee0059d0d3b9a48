"""Gradient descent."""

from theory import hyper, update_rule
from theory.symbols import Total, g, gradS


@update_rule(
    lr=hyper("(0, oo)"),
    references=(
        "Cohen, Damian, Talwalkar, Kolter, Lee: Understanding Optimization in Deep Learning with Central Flows, ICLR 2025.",
    ),
)
def gd(s):
    """Gradient descent, as torch.optim.SGD without momentum."""
    s.w = s.w - s.lr * s.g


@gd.with_published
def published(d):
    """[CF] section 3: threshold 2 and the variance along the top eigenvector."""
    return {
        "threshold": (d.threshold, 2),
        "variance": (d.complementarity.variance, -2 * Total(g * gradS) / Total(gradS**2)),
    }
