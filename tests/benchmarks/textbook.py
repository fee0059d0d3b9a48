r"""One step of GD's central flow as a textbook would do it: the slow and obvious reference of the speed table.

Four Euler substeps; in each a gradient, the top eigenpairs by LOBPCG from a random block, ∇H[u_i, u_j] by a loop of jvp∘jvp∘jacrev over
pairs, and the covariance by cvxpy. Shares no code with the flow but the loss.
"""

from __future__ import annotations

import warnings

import cvxpy
import numpy as np
import torch
from scipy.sparse.linalg import LinearOperator, lobpcg
from torch.func import grad, jacrev, jvp

SUBSTEPS, TOLERANCE, ITERATIONS = 4, 1e-8, 200


def hessian_product(loss, w, v):
    return jvp(grad(loss), (w,), (v,))[1]


def third(loss, w, u, v):
    return jvp(lambda x: jvp(jacrev(loss), (x,), (u,))[1], (w,), (v,))[1]


def top_modes(loss, w, k, seed):
    """The k largest eigenvalues of H and orthonormal eigenvectors, from a cold block with two guards."""

    def product(columns):
        columns = columns.reshape(len(w), -1)
        made = [hessian_product(loss, w, torch.as_tensor(v)) for v in np.ascontiguousarray(columns.T)]
        return torch.stack(made, 1).numpy()

    operator = LinearOperator((len(w), len(w)), matvec=product, matmat=product, dtype=float)
    start = np.random.default_rng(seed).standard_normal((len(w), k + 2))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        values, vectors = lobpcg(operator, start, largest=True, tol=TOLERANCE, maxiter=ITERATIONS)
    order = np.argsort(values)[::-1][:k]
    return values[order], torch.as_tensor(vectors[:, order].copy())


def covariance(A, B):
    """X ⪰ 0 with X ⟂ A + B[X] ⪰ 0, for self-adjoint B, as the minimiser of ½⟨X, B[X]⟩ + ⟨A, X⟩ (T12)."""
    k = len(A)
    X = cvxpy.Variable((k, k), symmetric=True)
    M = B.reshape(k * k, k * k)
    values, vectors = np.linalg.eigh((M + M.T) / 2)
    root = np.sqrt(np.maximum(values, 0))[:, None] * vectors.T
    objective = cvxpy.sum_squares(root @ cvxpy.vec(X, order="C")) / 2 + cvxpy.sum(cvxpy.multiply(A, X))
    cvxpy.Problem(cvxpy.Minimize(objective), [X >> 0]).solve(solver="CLARABEL")
    return X.value


def textbook_step(loss, w, lr, k, substeps=SUBSTEPS, seed=0):
    """Return w one optimizer step later, and the last X in the basis with UᵀPU = 1, P = 1/lr."""
    h = 1 / substeps
    for _ in range(substeps):
        g = grad(loss)(w)
        values, V = top_modes(loss, w, k, seed)
        U = V * lr**0.5
        T = torch.stack([torch.stack([third(loss, w, u, v) for v in U.T]) for u in U.T])
        A = np.diag(2 - lr * values) + h * lr * torch.einsum("ijn,n->ij", T, g).numpy()
        B = h * lr / 2 * torch.einsum("ijn,kln->ijkl", T, T).numpy()
        X = torch.as_tensor(covariance(A, B))
        w = w - h * lr * (g + torch.einsum("kln,kl->n", T, X) / 2)
    return w, X
