"""Pareto fronts: solutions, their measures and their files."""

from pyfront.front.front import Front
from pyfront.front.solution import Solution

__all__ = ["Front", "Solution"]
