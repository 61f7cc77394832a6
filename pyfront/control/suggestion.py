"""Constant weights in place of a controller: what a run says about them."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from pyfront._utils.arguments import BoolArray, FloatArray
from pyfront._utils.simplex import tilted
from pyfront.control.run import State, averaged, recalled

__all__ = ["Suggestion", "remembered", "suggestion"]

KEPT = 64  # points of a run that are remembered
LOWER = 0.05  # share by which a visited point must be lower to prove that constant weights leave
SMALLEST = 1e-12  # weight of which a logarithm is taken
POWER = 3  # of the decision's number in the average: the start of a run counts little


class Suggestion(NamedTuple):
    """Constant weights that end where the run is, if any do.

    Args:
        weights: [m].
        holds: False where the run itself has visited losses whose weighted sum is more than 5%
            lower than at its present point: training with these weights would leave for them, as
            on a concave part of a front. True says that no such point was seen, not that there
            is none.

    Example:
        >>> weights, holds = Suggestion(np.array([0.25, 0.75]), True)
        >>> holds
        True
    """

    weights: FloatArray
    holds: bool


def remembered(
    state: State,
    mean: FloatArray,
    weights: FloatArray,
    *,
    present: BoolArray,
    rate: float,
    geometric: bool,
) -> dict[str, Any]:
    """Return the entries of the state that :func:`suggestion` needs, one decision further.

    The average gives decision t a share proportional to t³ λ, λ its learning rate: what it moved.
    Points are kept at every 2ᵏ-th decision, with k such that there are at most 64.

    Args:
        state: that of the decision before.
        mean: l̄, [m].
        weights: those decided on, [m].
        present: [m]; the average of a task without data stays as it is.
        rate: λ, or 0 throughout where there is none.
        geometric: of two means the one that a short swing to large weights moves less; not for
            weights that may be 0.
    """
    count = int(state.get("decisions", 0)) + 1
    part = count**POWER * (rate if state.get("largest_rate", 0.0) or rate else 1.0)
    parts = float(state.get("parts", 0.0)) + part
    share = part / parts if parts > 0.0 else 1.0
    new = np.log(np.maximum(weights, SMALLEST)) if geometric else weights
    average = recalled(state, "average", new)
    average = np.where(present, (1.0 - share) * average + share * new, average)
    changed: dict[str, Any] = {"decisions": count, "parts": parts, "average": average.tolist()}
    stride, visited = int(state.get("stride", 1)), state.get("visited", [])
    if count % stride == 0:
        visited = [*visited, mean.tolist()]
        if len(visited) > KEPT:
            visited, stride = visited[1::2], 2 * stride
        changed |= {"visited": visited, "stride": stride}
    return changed


def suggestion(state: State, averaging: float, *, geometric: bool) -> Suggestion:
    """Return constant weights by the decisions so far; a ``ValueError`` before the first."""
    if not state.get("decisions"):
        raise ValueError("suggest_weights: no decision has been made yet")
    weights = np.array(state["average"])
    if geometric:
        weights = tilted(1.0, weights)
    nothing = np.zeros_like(weights)
    mean, _ = averaged(nothing, averaging, state, nothing.astype(bool))
    here = float(weights @ mean)
    lowest = min(float(weights @ np.array(point)) for point in [*state["visited"], mean.tolist()])
    return Suggestion(weights, lowest >= here - LOWER * abs(here))
