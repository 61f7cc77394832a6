"""Train with several losses and choose the trade-off.

opt = pyfront.EPO(torch.optim.Adam(model.parameters(), lr=1e-3), preference=[0.7, 0.3])
opt.step(losses)
"""

import importlib
from importlib import metadata
from typing import TYPE_CHECKING, Any

from pyfront._utils.extras import DISTRIBUTION
from pyfront.backend.cuda import (
    cuda_available,  # and with it the core: without a build this says so
)

if TYPE_CHECKING:
    from pyfront import control, datasets, functional, plots, preferences, problems
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


_MODULES = ("control", "datasets", "functional", "plots", "preferences", "problems")
_FACES = ("methods", "optimizer", "report", "front", "hypernetwork", "diagnosis", "sweeps")


def __getattr__(name: str) -> Any:
    """Import what is public when it is first used, which keeps ``import pyfront`` short."""
    if name == "__version__":
        return metadata.version(DISTRIBUTION)
    if name in (*_MODULES, *_FACES):
        return importlib.import_module(f"pyfront.{name}")
    if name in __all__:
        for face in _FACES:
            module = importlib.import_module(f"pyfront.{face}")
            if name in module.__all__:
                return globals().setdefault(name, getattr(module, name))
    raise AttributeError(f"module 'pyfront' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
