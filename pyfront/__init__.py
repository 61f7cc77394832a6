"""Train with several losses and choose the trade-off.

opt = pyfront.EPO(torch.optim.Adam(model.parameters(), lr=1e-3), preference=[0.7, 0.3])
opt.step(losses)
"""

from pyfront import functional, preferences, problems
from pyfront.devices import cuda_available
from pyfront.front import Front, Solution
from pyfront.methods import EPO, MGDA, LinearScalarization, ParetoMTL, PreferenceFeedback
from pyfront.optimizer import MultiTaskOptimizer
from pyfront.report import Report

__version__ = "0.1.0"

__all__ = [
    "EPO",
    "MGDA",
    "Front",
    "LinearScalarization",
    "MultiTaskOptimizer",
    "ParetoMTL",
    "PreferenceFeedback",
    "Report",
    "Solution",
    "cuda_available",
    "functional",
    "preferences",
    "problems",
]
