r"""Symmetric matrices as vectors: svec, smat and the matrices of linear maps on Sym(k).

svec lists the lower triangle row by row with off-diagonal entries times √2, so that ⟨X, Y⟩ = svec(X)·svec(Y).
N = k(k+1)/2. The order is also that of Clarabel's triangular PSD cone.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
_Index = NDArray[np.intp]


class SvecTable(NamedTuple):
    """Index tables of svec for one k; (i, j) runs over rows of svec, (p, q) over columns of an N x N matrix."""

    rows: _Index
    cols: _Index
    weights: Array
    """1 on the diagonal, √2 off it."""
    lower: _Index
    """Position of entry (i, j) in the raveled k x k matrix."""
    full: _Index
    """Position in svec of every entry of the raveled k x k matrix."""
    inverse_weights: Array
    """1 / weights, one per entry of the raveled k x k matrix."""
    diagonal: _Index
    """Positions in svec of the diagonal entries."""
    ip: _Index
    jq: _Index
    iq: _Index
    jp: _Index
    pair_weights: Array
    """½ weights_ij weights_pq."""


@lru_cache(maxsize=64)
def svec_table(k: int) -> SvecTable:
    rows, cols = np.tril_indices(k)
    weights = np.where(rows == cols, 1.0, np.sqrt(2.0))
    full = np.empty((k, k), dtype=np.intp)
    full[rows, cols] = full[cols, rows] = np.arange(rows.size)
    left, right = rows[:, None] * k, cols[:, None] * k
    return SvecTable(
        rows=rows,
        cols=cols,
        weights=weights,
        lower=rows * k + cols,
        full=full.ravel(),
        inverse_weights=(1.0 / weights)[full.ravel()],
        diagonal=np.flatnonzero(rows == cols),
        ip=left + rows,
        jq=right + cols,
        iq=left + cols,
        jp=right + rows,
        pair_weights=0.5 * weights[:, None] * weights[None, :],
    )


def svec(X: Array) -> Array:
    table = svec_table(X.shape[0])
    return X.ravel().take(table.lower) * table.weights


def smat(x: Array, k: int) -> Array:
    table = svec_table(k)
    return (x.take(table.full) * table.inverse_weights).reshape(k, k)


def congruence_matrix(R: Array) -> Array:
    """The N x N matrix of Y → R Y Rᵀ; orthogonal if R is.

    Args:
        R: (k, k), any matrix.

    Returns:
        K with K svec(Y) = svec(R Y Rᵀ).
    """
    table = svec_table(R.shape[0])
    r = R.ravel()
    K = r.take(table.ip) * r.take(table.jq)
    K += r.take(table.iq) * r.take(table.jp)
    K *= table.pair_weights
    return K


def operator_matrix(B: Array) -> Array:
    """The N x N matrix M of ℬ on svec: M svec(X) = svec(sym ℬ[X]).

    This is the minor symmetrisation B_ijkl → ¼(B_ijkl + B_jikl + B_ijlk + B_jilk). In k ↔ l it changes nothing, since
    X is symmetric; in i ↔ j it drops the antisymmetric part of ℬ[X], which `output_asymmetry` measures.

    Args:
        B: (k, k, k, k), ℬ[X]_ij = ∑_kl B_ijkl X_kl.

    Returns:
        M, (N, N). It is not symmetric unless ℬ is self-adjoint.
    """
    k = B.shape[0]
    table = svec_table(k)
    flat = B.reshape(k * k, k * k)
    upper = table.cols * k + table.rows
    half = flat.take(table.lower, axis=0) + flat.take(upper, axis=0)
    M: Array = half.take(table.lower, axis=1) + half.take(upper, axis=1)
    # ¼ w_ij w_kl: ½ of it is in pair_weights.
    M *= 0.5 * table.pair_weights
    return M


def output_asymmetry(B: Array) -> float:
    """Size of the part of ℬ[X] that `operator_matrix` drops, relative to B.

    Args:
        B: (k, k, k, k).

    Returns:
        ‖½(B_ijkl − B_jikl)‖ / ‖B‖ on symmetric X; 0 where ℬ[X] is symmetric.
    """
    visible = B + B.transpose(0, 1, 3, 2)
    size = float(np.abs(visible).max(initial=0.0))
    return 0.5 * float(np.abs(visible - visible.transpose(1, 0, 2, 3)).max(initial=0.0)) / size if size > 0 else 0.0
