"""One file a method: from losses and what it declares to need to weights."""

from pyfront.methods.aligned_mtl import AlignedMTL
from pyfront.methods.cagrad import CAGrad
from pyfront.methods.config import ConFIG
from pyfront.methods.constraint_feedback import ConstraintFeedback
from pyfront.methods.db_mtl import DBMTL
from pyfront.methods.dynamic_weight_average import DynamicWeightAverage
from pyfront.methods.epo import EPO
from pyfront.methods.fairgrad import FairGrad
from pyfront.methods.famo import FAMO
from pyfront.methods.feedback import PreferenceFeedback
from pyfront.methods.ferero import FERERO
from pyfront.methods.grad_norm import GradNorm
from pyfront.methods.imtl_g import IMTLG
from pyfront.methods.mgda import MGDA
from pyfront.methods.nash_mtl import NashMTL
from pyfront.methods.pareto_mtl import ParetoMTL
from pyfront.methods.pcgrad import PCGrad
from pyfront.methods.scalarization import LinearScalarization
from pyfront.methods.single_loop import SingleLoopMGDA
from pyfront.methods.tchebycheff import MirrorTchebycheff, SmoothTchebycheff
from pyfront.methods.uncertainty_weighting import UncertaintyWeighting
from pyfront.methods.upgrad import UPGrad

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
    "DynamicWeightAverage",
    "FairGrad",
    "GradNorm",
    "LinearScalarization",
    "MirrorTchebycheff",
    "NashMTL",
    "PCGrad",
    "ParetoMTL",
    "PreferenceFeedback",
    "SingleLoopMGDA",
    "SmoothTchebycheff",
    "UPGrad",
    "UncertaintyWeighting",
]
