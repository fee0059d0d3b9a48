"""A momentum with two poles, whose first instability is not a flip."""

from theory import Rational, hyper, per_parameter, update_rule


@update_rule(
    lr=hyper("(0, oo)"),
    m=per_parameter(),
    k=per_parameter(),
    refused="a complex pair of roots leaves the unit disc",
)
def two_pole(s):
    """A moving average of a moving average: F = 0.18 z²/((z − 0.4)(z − 0.7)); a complex pair leaves the unit disc first."""
    slow, fast = Rational(7, 10), Rational(4, 10)
    s.m = slow * s.m + (1 - slow) * s.g
    s.k = fast * s.k + (1 - fast) * s.m
    s.w = s.w - s.lr * s.k
