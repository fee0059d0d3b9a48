"""Sign descent with a smooth sign of the present gradient alone."""

from theory import hyper, sqrt, update_rule


@update_rule(
    lr=hyper("(0, oo)", default=1e-3),
    eps=hyper("(0, oo)", default=1e-3),
    refused="no one P serves stability",
    references=(
        "Bernstein, Wang, Azizzadenesheli, Anandkumar: signSGD: Compressed Optimisation for Non-Convex Problems, ICML 2018.",
    ),
)
def memoryless_sign(s):
    """A smooth sign of the present gradient, φ(g) = g/√(g² + ε²) in each coordinate.

    Around a mean gradient it meets an oscillation with φ′(g) = ε²/(g² + ε²)^{3/2} and the mean with φ(g)/g = 1/√(g² + ε²): one P for both, as the
    normal form has it, would put the edge at η·sharpness 2√(g² + ε²) where it is at 2(g² + ε²)^{3/2}/ε².
    """
    s.w = s.w - s.lr * s.g / sqrt(s.g**2 + s.eps**2)
