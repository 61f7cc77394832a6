"""One file a method: from losses and what it declares to need to weights."""

from pyfront.methods.dynamic_weight_average import DynamicWeightAverage
from pyfront.methods.epo import EPO
from pyfront.methods.grad_norm import GradNorm
from pyfront.methods.mgda import MGDA
from pyfront.methods.pareto_mtl import ParetoMTL
from pyfront.methods.scalarization import LinearScalarization
from pyfront.methods.uncertainty_weighting import UncertaintyWeighting

__all__ = [
    "EPO",
    "MGDA",
    "DynamicWeightAverage",
    "GradNorm",
    "LinearScalarization",
    "ParetoMTL",
    "UncertaintyWeighting",
]
