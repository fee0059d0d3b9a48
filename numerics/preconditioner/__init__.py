"""The stationary preconditioner (T14): the program and its certificate, one file per solver, and the entry point."""

from numerics.preconditioner.full_matrix import FullMatrixSolution, stationary_full_matrix
from numerics.preconditioner.solve import PreconditionerSolution, stationary_preconditioner

__all__ = ["FullMatrixSolution", "PreconditionerSolution", "stationary_full_matrix", "stationary_preconditioner"]
