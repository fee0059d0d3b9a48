"""Seeded instances of the complementarity problem (T11), in the classes a flow meets and in those that break solvers.

ℬ is built as in (T11): a Gram part ½⟨T_ij, P⁻¹ T_kl⟩ of n-dimensional features plus the accumulator part of RMSProp,
∑_m c_m u_mi u_mj u_mk u_ml. Both are self-adjoint and PSD; with n ≥ k(k+1)/2 the sum is definite.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Rng = np.random.Generator
MAX_K = 12


@dataclass(frozen=True)
class Instance:
    """One problem; `solvable` is known by construction, `solution` only where the instance was built from it."""

    kind: str
    k: int
    A: Array
    B: Array
    solvable: bool = True
    solution: Array | None = None


# ---- building blocks


def random_orthogonal(rng: Rng, k: int) -> Array:
    Q, R = np.linalg.qr(rng.standard_normal((k, k)))
    return Q * np.sign(np.diag(R))


def random_symmetric(rng: Rng, k: int) -> Array:
    G = rng.standard_normal((k, k))
    return 0.5 * (G + G.T)


def with_eigenvalues(rng: Rng, eigenvalues: Array) -> Array:
    Q = random_orthogonal(rng, len(eigenvalues))
    A = (Q * eigenvalues) @ Q.T
    return 0.5 * (A + A.T)


def sym_size(k: int) -> int:
    return k * (k + 1) // 2


def features(rng: Rng, k: int, n: int) -> Array:
    """T_ij = ∇H[u_i, u_j], shape (n, k, k), symmetric in i, j."""
    T = rng.standard_normal((n, k, k)) / np.sqrt(n)
    return 0.5 * (T + T.transpose(0, 2, 1))


def gram(T: Array, P: Array | None = None) -> Array:
    weights = np.ones(len(T)) if P is None else 1.0 / P
    return 0.5 * np.einsum("n,nij,nkl->ijkl", weights, T, T, optimize=True)


def accumulator(rng: Rng, k: int, n: int, strength: float) -> Array:
    u, c = rng.standard_normal((n, k)), strength * rng.random(n) / n
    return np.einsum("n,ni,nj,nk,nl->ijkl", c, u, u, u, u, optimize=True)


def definite_operator(rng: Rng, k: int) -> Array:
    n = sym_size(k) + int(rng.integers(0, 3 * k + 1))
    P = 10.0 ** rng.uniform(-1, 1, n)
    return gram(features(rng, k, n), P) + accumulator(rng, k, n, float(rng.choice([0.0, 0.3, 3.0])))


def apply(B: Array, X: Array) -> Array:
    return np.einsum("ijkl,kl->ij", B, X)


def to_basis(k: int) -> Array:
    """(N, k, k): an orthonormal basis of Sym(k)."""
    rows, cols = np.tril_indices(k)
    E = np.zeros((rows.size, k, k))
    value = np.where(rows == cols, 1.0, np.sqrt(0.5))
    E[np.arange(rows.size), rows, cols] = E[np.arange(rows.size), cols, rows] = value
    return E


def tensor_of(M: Array, k: int) -> Array:
    E = to_basis(k)
    return np.einsum("aij,ab,bkl->ijkl", E, M, E, optimize=True)


def matrix_of(B: Array) -> Array:
    E = to_basis(B.shape[0])
    return np.einsum("aij,ijkl,bkl->ab", E, B, E, optimize=True)


def congruence(A: Array, B: Array, s: Array) -> tuple[Array, Array]:
    """The same problem in the units u_i → s_i u_i."""
    return A * np.outer(s, s), np.einsum("ijkl,i,j,k,l->ijkl", B, s, s, s, s, optimize=True)


def complementary_pair(rng: Rng, k: int, rank: int) -> tuple[Array, Array]:
    """X of the given rank, S of rank k − rank, XS = 0."""
    Q = random_orthogonal(rng, k)
    x = np.where(np.arange(k) < rank, 10.0 ** rng.uniform(-1, 1, k), 0.0)
    s = np.where(np.arange(k) < rank, 0.0, 10.0 ** rng.uniform(-1, 1, k))
    X, S = (Q * x) @ Q.T, (Q * s) @ Q.T
    return 0.5 * (X + X.T), 0.5 * (S + S.T)


def margin(rng: Rng, k: int, active: int) -> Array:
    """𝒜 as a flow step has it: λ* − λ_i near 0 on the diagonal plus a drift, `active` eigenvalues negative."""
    size = 10.0 ** rng.uniform(-2, 0, k)
    return with_eigenvalues(rng, np.where(np.arange(k) < active, -size, size))


def some_active(rng: Rng, k: int) -> int:
    return int(rng.integers(1, k + 1))


# ---- classes


def plain(rng: Rng, k: int) -> Instance:
    active = int(rng.integers(0, k + 1))
    return Instance("plain", k, margin(rng, k, active), definite_operator(rng, k))


def overall_scale(rng: Rng, k: int) -> Instance:
    a, b = 10.0 ** rng.uniform(-8, 8, 2)
    return Instance("overall scale", k, a * margin(rng, k, some_active(rng, k)), b * definite_operator(rng, k))


def row_scale(rng: Rng, k: int) -> Instance:
    s = 10.0 ** rng.uniform(-4, 4, k)
    return Instance("row scale", k, *congruence(margin(rng, k, some_active(rng, k)), definite_operator(rng, k), s))


def _psd_direction(rng: Rng, k: int, rank: int) -> tuple[Array, Array]:
    """V ⪰ 0 of the given rank and its coordinates of unit length."""
    V, _ = complementary_pair(rng, k, rank)
    v = np.einsum("aij,ij->a", to_basis(k), V)
    return V, v / np.linalg.norm(v)


def nearly_singular(rng: Rng, k: int) -> Instance:
    N = sym_size(k)
    match int(rng.integers(0, 4)):
        case 0:  # exactly singular: fewer features than unknowns
            B = gram(features(rng, k, max(1, N - int(rng.integers(1, k + 1)))))
        case 1:  # some eigenvalues down to 1e-10
            M = matrix_of(definite_operator(rng, k))
            values, Q = np.linalg.eigh(M)
            few = rng.random(N) < 0.3
            values = np.where(few, values[-1] * 10.0 ** rng.uniform(-10, -5, N), values)
            B = tensor_of((Q * values) @ Q.T, k)
        case 2:  # nearly blind to a PSD direction that 𝒜 may violate: X grows to 1e6
            M, v = matrix_of(definite_operator(rng, k)), _psd_direction(rng, k, 1)[1]
            blind = np.eye(N) - np.outer(v, v)
            weak = 10.0 ** rng.uniform(-6, -4) * float(np.abs(M).max())
            B = tensor_of(blind @ M @ blind + weak * np.outer(v, v), k)
            return Instance("nearly singular", k, margin(rng, k, some_active(rng, k)), B)
        case _:  # two modes with nearly the same third derivatives
            T = features(rng, k, N + k)
            if k > 1:
                T[:, 1, 1] = T[:, 0, 0] + 1e-4 * T[:, 1, 1]
            B = gram(T)
    X, S = complementary_pair(rng, k, some_active(rng, k))
    return Instance("nearly singular", k, S - apply(B, X), B, solution=X)


def slightly_violated(rng: Rng, k: int) -> Instance:
    eigenvalues = 10.0 ** rng.uniform(-1, 0, k)
    eigenvalues[0] = -1e-7 * eigenvalues.max()
    return Instance("slightly violated", k, with_eigenvalues(rng, eigenvalues), definite_operator(rng, k))


def equal_eigenvalues(rng: Rng, k: int) -> Instance:
    eigenvalues = rng.choice([-1.0, -0.5, 0.0, 0.5], k)
    eigenvalues[0] = -1.0
    A = with_eigenvalues(rng, eigenvalues) if rng.random() < 0.5 else np.diag(eigenvalues)
    if rng.random() < 0.5:
        return Instance("equal eigenvalues", k, A, definite_operator(rng, k))
    isotropic = np.eye(sym_size(k))
    trace = np.einsum("aii->a", to_basis(k))
    return Instance("equal eigenvalues", k, A, tensor_of(isotropic + 0.5 * np.outer(trace, trace), k))


def several_active(rng: Rng, k: int) -> Instance:
    B = definite_operator(rng, k)
    X, S = complementary_pair(rng, k, int(rng.integers((k + 1) // 2, k + 1)))
    return Instance("several active", k, S - apply(B, X), B, solution=X)


def _random_skew(rng: Rng, N: int) -> Array:
    G = rng.standard_normal((N, N))
    K = G - G.T
    return K / max(float(np.abs(K).max()), 1e-300)


def skew(rng: Rng, k: int) -> Instance:
    M = matrix_of(definite_operator(rng, k))
    strength = 10.0 ** rng.uniform(-3, 0) * float(np.abs(M).max())
    B = tensor_of(M + strength * _random_skew(rng, len(M)), k)
    return Instance("skew part", k, margin(rng, k, some_active(rng, k)), B)


def unsolvable(rng: Rng, k: int) -> Instance:
    """ℬ[V] = 0 = ℬᵀ[V] for a V ⪰ 0 with ⟨𝒜, V⟩ < 0: no X gives ⟨V, 𝒜 + ℬ[X]⟩ ≥ 0."""
    rank = int(rng.integers(1, min(k, 3) + 1))
    V, v = _psd_direction(rng, k, rank)
    M = matrix_of(definite_operator(rng, k))
    if rng.random() < 0.3:
        M = M + 0.3 * float(np.abs(M).max()) * _random_skew(rng, len(M))
    blind = np.eye(len(v)) - np.outer(v, v)
    B = tensor_of(blind @ M @ blind, k)
    A = margin(rng, k, int(rng.integers(0, k + 1)))
    depth = 10.0 ** rng.uniform(-3, 0)
    A = A - (float(np.vdot(A, V)) / float(np.vdot(V, V)) + depth * np.linalg.norm(A) / np.linalg.norm(V)) * V
    if rng.random() < 0.3:
        A, B = congruence(A, B, 10.0 ** rng.uniform(-2, 2, k))
    return Instance("unsolvable", k, A, B, solvable=False)


CLASSES: tuple[Callable[[Rng, int], Instance], ...] = (
    plain,
    overall_scale,
    row_scale,
    nearly_singular,
    slightly_violated,
    equal_eigenvalues,
    several_active,
    skew,
    unsolvable,
)


def instances(count: int, seed: int = 0) -> Iterator[Instance]:
    """`count` instances, the classes in turn, k cycling through 1…12 within each class."""
    for index in range(count):
        kind, round_ = index % len(CLASSES), index // len(CLASSES)
        rng = np.random.default_rng([seed, index])
        yield CLASSES[kind](rng, 1 + round_ % MAX_K)
