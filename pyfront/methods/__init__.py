"""One file a method: from losses and what it declares to need to weights."""

from pyfront.methods.epo import EPO
from pyfront.methods.feedback import PreferenceFeedback
from pyfront.methods.ferero import FERERO
from pyfront.methods.mgda import MGDA
from pyfront.methods.pareto_mtl import ParetoMTL
from pyfront.methods.scalarization import LinearScalarization
from pyfront.methods.single_loop import SingleLoopMGDA
from pyfront.methods.tchebycheff import MirrorTchebycheff, SmoothTchebycheff

__all__ = [
    "EPO",
    "FERERO",
    "MGDA",
    "LinearScalarization",
    "MirrorTchebycheff",
    "ParetoMTL",
    "PreferenceFeedback",
    "SingleLoopMGDA",
    "SmoothTchebycheff",
]
