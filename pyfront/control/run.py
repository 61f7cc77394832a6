"""What a controller remembers of a run: averages of the losses, of its weights, of its outcomes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from pyfront._utils.arguments import BoolArray, FloatArray

__all__ = ["Decision", "State", "averaged", "recalled"]

State: TypeAlias = Mapping[str, Any]  # what JSON knows


class Decision(NamedTuple):
    """What a controller decided.

    ``weights`` is [m]. ``reachable`` [m] is None, or, where the status is ``"unreachable"``,
    the preference r' ∝ 1/l̄ of the ray on which the losses are: the nearest that was found.

    Example:
        >>> Decision(np.array([0.25, 0.75])).status
        'ok'
    """

    weights: FloatArray
    status: str = "ok"
    reachable: FloatArray | None = None


def recalled(state: State, name: str, default: FloatArray) -> FloatArray:
    """Return what the state holds under ``name`` if it is as long as ``default``, else that."""
    kept = state.get(name)
    return default if kept is None or len(kept) != default.size else np.array(kept)


def averaged(
    losses: FloatArray, keep: float, state: State, present: BoolArray
) -> tuple[FloatArray, dict[str, Any]]:
    """Return l̄ of each task over its own decisions, with the bias of the start at 0 removed.

    Args:
        losses: l, [m]; entries that are not present are not looked at.
        keep: β in [0, 1).
        state: that of the decision before.
        present: [m], True where there is data for the task.

    Returns:
        l̄, [m], 0 for a task that has never been present, and its part of the next state.
    """
    mean = recalled(state, "mean_losses", np.zeros_like(losses))
    counts = recalled(state, "counts", np.zeros_like(losses)) + present
    mean = np.where(present, keep * mean + (1.0 - keep) * losses, mean)
    unbiased = mean / np.where(counts > 0, 1.0 - keep**counts, 1.0)
    return unbiased, {"mean_losses": mean.tolist(), "counts": counts.tolist()}
