"""The decisions of the feedback methods on plain numbers, without an optimizer or a graph."""

from pyfront.control.constraint import ConstraintRule
from pyfront.control.controllers import ConstraintController, Controller, PreferenceController
from pyfront.control.gains import Gains, stable_gains
from pyfront.control.preference import PreferenceRule
from pyfront.control.run import Decision
from pyfront.control.suggestion import Suggestion

__all__ = [
    "ConstraintController",
    "ConstraintRule",
    "Controller",
    "Decision",
    "Gains",
    "PreferenceController",
    "PreferenceRule",
    "Suggestion",
    "stable_gains",
]
