"""RMSProp with the full matrix of second moments."""

from theory import hyper, identity, matrix, matrix_sqrt, outer, solve, update_rule


@update_rule(
    lr=hyper("(0, oo)", default=1e-2),
    beta2=hyper("[0, 1)", default=0.99),
    eps=hyper("(0, oo)", default=1e-3),
    V=matrix(nonnegative=True),
    references=(
        "Duchi, Hazan, Singer: Adaptive Subgradient Methods, JMLR 2011.",
        "Agarwal, Bullins, Chen, Hazan, Singh, Zhang, Zhang: Efficient Full-Matrix Adaptive Regularization, ICML 2019.",
    ),
)
def full_matrix_rmsprop(s):
    """Full-matrix RMSProp: the gradient divided by the root of the moving average of its outer products; ε > 0 keeps the root regular."""
    s.V = s.beta2 * s.V + (1 - s.beta2) * outer(s.g)
    s.w = s.w - s.lr * solve(matrix_sqrt(s.V) + s.eps * identity(), s.g)
