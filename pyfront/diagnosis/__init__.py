"""Whether tasks conflict at all, before a method is chosen."""

from pyfront.diagnosis.costs import StepCost
from pyfront.diagnosis.diagnosing import diagnose
from pyfront.diagnosis.diagnosis import Diagnosis

__all__ = ["Diagnosis", "StepCost", "diagnose"]
