r"""What `solve_sdcp` returns."""

from dataclasses import dataclass
from typing import Literal

from numerics.sdcp.certificate import Residuals
from numerics.sdcp.infeasibility import Infeasibility
from numerics.sdcp.svec import Array

Status = Literal["optimal", "unsolvable", "inaccurate"]


@dataclass(frozen=True)
class SDCPSolution:
    """X with its certificate.

    `optimal` means `residuals.worst` ≤ 1e-8, `unsolvable` that `infeasibility` proves there is no solution,
    `inaccurate` that neither was reached.
    """

    X: Array
    """(k, k); NaN if unsolvable: there is no number to return.

    Unique if ℬ is definite; if ℬ is only PSD and self-adjoint, ℬ[X] is.
    """
    residuals: Residuals
    status: Status
    solver: str
    """The method that found X, e.g. "newton" or "interior_point"."""
    iterations: int
    """Linear solves spent, over all methods tried."""
    infeasibility: Infeasibility | None = None
    """The proof behind `unsolvable`."""
    asymmetry: float = 0.0
    """Relative size of what was dropped by symmetrising 𝒜 (refused beyond round-off) and the output of ℬ."""
