"""Train with several losses and choose the trade-off.

opt = pyfront.EPO(torch.optim.Adam(model.parameters(), lr=1e-3), preference=[0.7, 0.3])
opt.step(losses)
"""

from pyfront import functional, preferences, problems
from pyfront.devices import cuda_available
from pyfront.front import Front, Solution
from pyfront.methods import (
    EPO,
    FERERO,
    MGDA,
    LinearScalarization,
    MirrorTchebycheff,
    ParetoMTL,
    PreferenceFeedback,
    SingleLoopMGDA,
    SmoothTchebycheff,
)
from pyfront.optimizer import MultiTaskOptimizer
from pyfront.report import Report

__version__ = "0.1.0"

__all__ = [
    "EPO",
    "FERERO",
    "MGDA",
    "Front",
    "LinearScalarization",
    "MirrorTchebycheff",
    "MultiTaskOptimizer",
    "ParetoMTL",
    "PreferenceFeedback",
    "Report",
    "SingleLoopMGDA",
    "SmoothTchebycheff",
    "Solution",
    "cuda_available",
    "functional",
    "preferences",
    "problems",
]
