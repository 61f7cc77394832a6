"""One file a method: from losses and what it declares to need to weights."""

from pyfront.methods.dynamic_weight_average import DynamicWeightAverage
from pyfront.methods.epo import EPO
from pyfront.methods.feedback import PreferenceFeedback
from pyfront.methods.ferero import FERERO
from pyfront.methods.grad_norm import GradNorm
from pyfront.methods.mgda import MGDA
from pyfront.methods.pareto_mtl import ParetoMTL
from pyfront.methods.scalarization import LinearScalarization
from pyfront.methods.single_loop import SingleLoopMGDA
from pyfront.methods.tchebycheff import MirrorTchebycheff, SmoothTchebycheff
from pyfront.methods.uncertainty_weighting import UncertaintyWeighting

__all__ = [
    "EPO",
    "FERERO",
    "MGDA",
    "DynamicWeightAverage",
    "GradNorm",
    "LinearScalarization",
    "MirrorTchebycheff",
    "ParetoMTL",
    "PreferenceFeedback",
    "SingleLoopMGDA",
    "SmoothTchebycheff",
    "UncertaintyWeighting",
]
