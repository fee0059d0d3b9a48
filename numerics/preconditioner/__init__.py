"""The stationary preconditioner (T14): the program and its certificate, one file per solver, and the entry point."""

from numerics.preconditioner.solve import PreconditionerSolution, stationary_preconditioner

__all__ = ["PreconditionerSolution", "stationary_preconditioner"]
