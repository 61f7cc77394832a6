"""One file a method: from losses and what it declares to need to weights."""

from pyfront.methods.epo import EPO
from pyfront.methods.feedback import PreferenceFeedback
from pyfront.methods.mgda import MGDA
from pyfront.methods.pareto_mtl import ParetoMTL
from pyfront.methods.scalarization import LinearScalarization

__all__ = ["EPO", "MGDA", "LinearScalarization", "ParetoMTL", "PreferenceFeedback"]
