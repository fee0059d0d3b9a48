r"""What `solve_sdcp` accepts: shapes, finiteness, symmetry of 𝒜."""

import numpy as np

from numerics.errors import InputRefused
from numerics.sdcp.svec import Array, output_asymmetry


def _as_real(name: str, value: object) -> Array:
    array = np.asarray(value)
    if array.dtype.kind not in "fiu":
        raise InputRefused(f"{name} must be an array of real numbers, got dtype {array.dtype}; pass a float64 array.")
    return np.ascontiguousarray(array, dtype=np.float64)


def _require_finite(name: str, array: Array) -> None:
    bad = int(array.size - np.isfinite(array).sum())
    if bad:
        raise InputRefused(f"{name} must be finite, got {bad} NaN or infinite entries; check the step that built it.")


def _symmetric_part(A: Array, tolerance: float) -> tuple[Array, float]:
    size = float(np.abs(A).max(initial=0.0))
    asymmetry = float(np.abs(A - A.T).max(initial=0.0)) / size if size > 0 else 0.0
    if asymmetry > tolerance:
        raise InputRefused(
            f"A must be symmetric to round-off, got a relative asymmetry of {asymmetry:.1e}; pass (A + A.T) / 2 if "
            "that is what you mean."
        )
    return 0.5 * (A + A.T), asymmetry


def check_problem(A: object, B: object) -> tuple[Array, Array, float]:
    """Check 𝒜 and ℬ and bring them to float64.

    Args:
        A: (k, k), symmetric to round-off of its dtype.
        B: (k, k, k, k).

    Returns:
        A with its round-off asymmetry averaged out, B, and the relative size of the asymmetry dropped from A and from
        the output of B.

    Raises:
        InputRefused: on a wrong shape or dtype, a non-finite entry or an A that is not symmetric.
    """
    kind = getattr(A, "dtype", None)
    single = kind is not None and np.dtype(kind).kind == "f" and np.dtype(kind).itemsize < 8
    matrix, tensor = _as_real("A", A), _as_real("B", B)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise InputRefused(f"A must have shape (k, k), got {matrix.shape}; pass the symmetric matrix of (T11).")
    k = matrix.shape[0]
    if tensor.shape != (k, k, k, k):
        raise InputRefused(f"B must have shape {(k,) * 4} to match A, got {tensor.shape}; pass B_ijkl as in (T11).")
    _require_finite("A", matrix)
    _require_finite("B", tensor)
    symmetric, asymmetry = _symmetric_part(matrix, 2e-5 if single else 1e-10)
    return symmetric, tensor, max(asymmetry, output_asymmetry(tensor))


def check_start(X0: object, k: int) -> Array:
    """Check a warm start.

    Args:
        X0: (k, k); need not be PSD.
        k: Number of modes.

    Returns:
        X0 in float64.

    Raises:
        InputRefused: on a wrong shape or dtype or a non-finite entry.
    """
    start = _as_real("X0", X0)
    if start.shape != (k, k):
        raise InputRefused(f"X0 must have shape {(k, k)} to match A, got {start.shape}; pass X0=None for a cold start.")
    _require_finite("X0", start)
    return start
