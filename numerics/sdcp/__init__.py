"""The semidefinite complementarity problem (T10)-(T12): solvers, certificates, proofs of insolubility."""

from numerics.sdcp.certificate import Residuals, residuals
from numerics.sdcp.infeasibility import Infeasibility
from numerics.sdcp.solution import SDCPSolution
from numerics.sdcp.solve import solve_sdcp
from numerics.sdcp.trace import solve_with_trace

__all__ = ["Infeasibility", "Residuals", "SDCPSolution", "residuals", "solve_sdcp", "solve_with_trace"]
