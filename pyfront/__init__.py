"""Train with several losses and choose the trade-off.

opt = pyfront.EPO(torch.optim.Adam(model.parameters(), lr=1e-3), preference=[0.7, 0.3])
opt.step(losses)
"""

import importlib
from importlib import metadata
from typing import Any

from pyfront import control, functional, preferences, problems
from pyfront._utils.extras import DISTRIBUTION
from pyfront.backend.cuda import cuda_available
from pyfront.diagnosis import Diagnosis, diagnose
from pyfront.front import Front, Solution
from pyfront.hypernetwork import HyperNetwork
from pyfront.methods import (
    DBMTL,
    EPO,
    FAMO,
    FERERO,
    IMTLG,
    MGDA,
    AlignedMTL,
    CAGrad,
    ConFIG,
    ConstraintFeedback,
    DynamicWeightAverage,
    FairGrad,
    GradNorm,
    LinearScalarization,
    MirrorTchebycheff,
    NashMTL,
    ParetoMTL,
    PCGrad,
    PreferenceFeedback,
    SingleLoopMGDA,
    SmoothTchebycheff,
    UncertaintyWeighting,
    UPGrad,
)
from pyfront.optimizer import MultiTaskOptimizer
from pyfront.report import Report
from pyfront.sweeps import SweepError, sweep, trace

__version__: str

__all__ = [
    "DBMTL",
    "EPO",
    "FAMO",
    "FERERO",
    "IMTLG",
    "MGDA",
    "AlignedMTL",
    "CAGrad",
    "ConFIG",
    "ConstraintFeedback",
    "Diagnosis",
    "DynamicWeightAverage",
    "FairGrad",
    "Front",
    "GradNorm",
    "HyperNetwork",
    "LinearScalarization",
    "MirrorTchebycheff",
    "MultiTaskOptimizer",
    "NashMTL",
    "PCGrad",
    "ParetoMTL",
    "PreferenceFeedback",
    "Report",
    "SingleLoopMGDA",
    "SmoothTchebycheff",
    "Solution",
    "SweepError",
    "UPGrad",
    "UncertaintyWeighting",
    "control",
    "cuda_available",
    "datasets",
    "diagnose",
    "functional",
    "plots",
    "preferences",
    "problems",
    "sweep",
    "trace",
]


def __getattr__(name: str) -> Any:
    """Import `pyfront.datasets` and `pyfront.plots`, and read the version, when first used."""
    if name in ("datasets", "plots"):
        return importlib.import_module(f"pyfront.{name}")
    if name == "__version__":
        return metadata.version(DISTRIBUTION)
    raise AttributeError(f"module 'pyfront' has no attribute {name!r}")
