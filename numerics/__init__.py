"""Numerics of central flows: derivatives, eigenmodes, the covariance, the processes compared, and their records."""

from numerics.errors import InputRefused
from numerics.problem import Problem
from numerics.records import Run
from numerics.sdcp import SDCPSolution, solve_sdcp
from numerics.simulate import simulate

__all__ = ["InputRefused", "Problem", "Run", "SDCPSolution", "simulate", "solve_sdcp"]
