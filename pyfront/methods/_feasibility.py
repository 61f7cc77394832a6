"""How far the feasibility phase of Pareto MTL has come: as a memory, and as a device's numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from pyfront._utils.arguments import FloatArray
from pyfront.backend.cuda import PHASES
from pyfront.optimizer.shared import Memory

if TYPE_CHECKING:
    from pyfront.methods.pareto_mtl import ParetoMTL

__all__ = ["AVERAGE", "advance", "as_numbers", "from_numbers"]

AVERAGE = 0.9  # of the losses on which feasibility is judged


def as_numbers(memory: Memory, tasks: int, phase: str) -> FloatArray:
    """Return what a device keeps, [3 + m]: phase, steps, whether feasible, running mean of l.

    Args:
        memory: of the method.
        tasks: m.
        phase: where the memory has none.
    """
    counts = [
        float(PHASES.index(memory.get("phase", phase))),
        memory.get("warmup", 0.0),
        memory.get("feasible", -1.0),
    ]
    mean = [x or 0.0 for x in memory.get("mean_losses", [0.0] * tasks)]  # None: no data yet
    return np.array([*counts, *mean], dtype=np.float64)


def from_numbers(numbers: Sequence[float], memory: Memory) -> Memory:
    """Return the entries of the memory that a device's numbers change."""
    phase, steps, feasible, *mean = numbers
    changed: Memory = {"phase": PHASES[int(phase)]}
    if steps > 0.0:
        taken = int(steps) - int(memory.get("warmup", 0))
        seen = [count + taken for count in memory.get("seen", [0] * len(mean))]
        changed.update(warmup=int(steps), mean_losses=mean, seen=seen)
    if feasible >= 0.0:
        changed["feasible"] = feasible > 0.0
    return changed


def advance(method: ParetoMTL, losses: FloatArray, vectors: FloatArray, status: str) -> None:
    """Count a step of the feasibility phase, and end it.

    Where a task has no data nothing says whether the losses are in the region.
    """
    steps = int(method.memory.get("warmup", 0)) + 1
    before = method.recalled("mean_losses", np.zeros_like(losses))
    mean = AVERAGE * before + (1.0 - AVERAGE) * losses
    seen = [int(count) + 1 for count in method.recalled("seen", np.zeros_like(losses))]
    method.memory.update(warmup=steps, mean_losses=mean.tolist(), seen=seen)
    complete = method.present is None or method.present.complete
    inside = complete and _is_inside(mean, seen, vectors)
    if inside or (complete and status == "stationary") or steps >= method.warmup_steps:
        # this step's weights are still kept after this: an age of 0 then makes the next decide
        method.memory.update(phase="descent", feasible=inside, age=-1)


def _is_inside(mean: FloatArray, seen: Sequence[int], vectors: FloatArray) -> bool:
    """Return whether the mean losses, without their bias, are in the region of the first vector."""
    unbiased = mean / np.array([1.0 - AVERAGE**count for count in seen])
    return bool((unbiased @ (vectors - vectors[0]).T <= 0.0).all())
