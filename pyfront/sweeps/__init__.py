"""Many trainings, one for each preference."""

from pyfront.sweeps.errors import SweepError
from pyfront.sweeps.parallel import sweep
from pyfront.sweeps.walk import trace

__all__ = ["SweepError", "sweep", "trace"]
