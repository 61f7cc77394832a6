"""Train with several losses and choose the trade-off.

opt = pyfront.EPO(torch.optim.Adam(model.parameters(), lr=1e-3), preference=[0.7, 0.3])
opt.step(losses)
"""

from pyfront import functional, preferences, problems
from pyfront.devices import cuda_available
from pyfront.front import Front, Solution
from pyfront.hypernetwork import HyperNetwork
from pyfront.methods import (
    EPO,
    MGDA,
    DynamicWeightAverage,
    GradNorm,
    LinearScalarization,
    ParetoMTL,
    UncertaintyWeighting,
)
from pyfront.optimizer import MultiTaskOptimizer
from pyfront.report import Report
from pyfront.sweep import SweepError, sweep, trace

__version__ = "0.1.0"

__all__ = [
    "EPO",
    "MGDA",
    "DynamicWeightAverage",
    "Front",
    "GradNorm",
    "HyperNetwork",
    "LinearScalarization",
    "MultiTaskOptimizer",
    "ParetoMTL",
    "Report",
    "Solution",
    "SweepError",
    "UncertaintyWeighting",
    "cuda_available",
    "functional",
    "preferences",
    "problems",
    "sweep",
    "trace",
]
