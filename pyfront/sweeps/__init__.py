"""Many trainings, one for each preference."""

from pyfront.sweeps.sweep import SweepError, sweep, trace

__all__ = ["SweepError", "sweep", "trace"]
