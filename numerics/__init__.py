"""Numerics of central flows: derivatives, eigenmodes, the covariance, the processes compared, and their records."""

from numerics.errors import InputRefused
from numerics.preconditioner import (
    FullMatrixSolution,
    PreconditionerSolution,
    stationary_full_matrix,
    stationary_preconditioner,
)
from numerics.problem import Problem
from numerics.records import Run
from numerics.restart import restart_at_edge
from numerics.sdcp import SDCPSolution, solve_sdcp
from numerics.simulate import simulate

__all__ = [
    "FullMatrixSolution",
    "InputRefused",
    "PreconditionerSolution",
    "Problem",
    "Run",
    "SDCPSolution",
    "restart_at_edge",
    "simulate",
    "solve_sdcp",
    "stationary_full_matrix",
    "stationary_preconditioner",
]
