"""The processes that a run compares, all started from one point: the optimizer itself and the flows that average it."""

from numerics.processes.averaged import AveragedFlow
from numerics.processes.discrete import Discrete
from numerics.processes.long_steps import LongSteps
from numerics.processes.midpoint import Midpoint
from numerics.processes.process import Context, Process, ProcessStopped
from numerics.processes.rod import Rod
from numerics.processes.stationary import StationaryFlow

__all__ = [
    "AveragedFlow",
    "Context",
    "Discrete",
    "LongSteps",
    "Midpoint",
    "Process",
    "ProcessStopped",
    "Rod",
    "StationaryFlow",
]
