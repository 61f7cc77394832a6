"""From what was measured to a verdict: the rules, and the words for it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from pyfront._utils.arguments import BoolArray, FloatArray
from pyfront._utils.tables import bytes_in_words
from pyfront.backend.solvers import min_norm
from pyfront.diagnosis.costs import StepCost

__all__ = ["CONFLICT", "UNCLEAR", "Evidence", "Outcome", "judge"]

Outcome: TypeAlias = Literal[
    "one_task",
    "nothing_shared",
    "stationary",
    "unclear",
    "weights",
    "rescale",
    "tolerable",
    "conflict",
    "opposed",
]

CONFLICT = 0.05  # a pair conflicts where its cosine is surely below −CONFLICT
UNCLEAR = 0.2  # it may, where its cosine is possibly below −UNCLEAR
FAR_APART = 10.0  # ratio of lengths from which weights have to undo the scale
SELDOM = 0.05  # share of batches in which a loss may rise along the sum
CANCELLED = 0.1  # length of the min-norm point of unit gradients that counts as none
LEAST_OVERLAP = 0.3  # of the samples of two tasks; below, cosines are noise
NO_CONFLICT = "No pair of tasks conflicts beyond noise."
FEW = 4  # tasks for which m passes cost little more than a product


@dataclass(frozen=True)
class Evidence:
    """What a verdict rests on.

    Attributes:
        names: of the m tasks.
        batches: B.
        shared: the number of shared parameters.
        norms: lengths of the task gradients over these, [m].
        cosines: those of the expected gradients where the batches show them, else the means of
            those of single batches, [m, m]; NaN where nothing is known.
        margins: how far noise moves one of them, [m, m] ≥ 0; 0 where there is one batch alone.
        strict_margins: the same for the pair of all that it moves furthest.
        rises: share of batches in which a loss rises along the sum, [m].
        rates: how fast each loss falls along the sum on average, [m]; NaN where that is not known.
        overlap: share of samples that the tasks have in common.
        negative: a loss is negative.
        costs: of a step of the methods.
    """

    names: Sequence[str]
    batches: int
    shared: int
    norms: FloatArray
    cosines: FloatArray
    margins: FloatArray
    strict_margins: FloatArray
    rises: FloatArray
    rates: FloatArray
    overlap: float
    negative: bool
    costs: Sequence[StepCost]

    @property
    def balanced(self) -> FloatArray:
        """Weights that undo the lengths, w_j ∝ 1/‖g_j‖ of sum m; 0 for a gradient of zero."""
        w = np.divide(1.0, self.norms, out=np.zeros_like(self.norms), where=self.norms > 0.0)
        return w * len(w) / w.sum() if w.any() else np.ones_like(w)

    @property
    def ratio(self) -> float:
        """The largest length over the least one that is not zero."""
        lengths = self.norms[self.norms > 0.0]
        return float(lengths.max() / lengths.min()) if lengths.size else 1.0


def judge(e: Evidence) -> tuple[Outcome, str]:
    """Return the outcome in one word, and the verdict in sentences."""
    if len(e.names) == 1:
        return "one_task", "One task: there is nothing to trade off; use the optimizer as it is."
    if not e.shared:
        return "nothing_shared", (
            "No parameter is reached by two tasks: they cannot conflict, and the sum of the losses "
            "trains each on its own. A trunk that is shared is frozen, or not among the parameters."
        )
    if not e.norms.any():
        return "stationary", (
            "All gradients at the shared parameters are zero: nothing can be said of conflicts."
        )
    pairs = _pairs(e, e.cosines + e.strict_margins < -CONFLICT)
    doubtful = _pairs(e, ~(e.cosines - e.margins >= -UNCLEAR))
    if e.overlap < LEAST_OVERLAP or (doubtful and not pairs):
        return "unclear", _unclear(e, doubtful)
    if not pairs:
        if e.ratio >= FAR_APART:
            return "rescale", f"{NO_CONFLICT} {_undo_scale(e)}{_one_batch(e)}"
        return "weights", (
            f"{NO_CONFLICT} Fixed weights lower all losses: LinearScalarization(base, weights), or "
            f"the sum of the losses. {_by_preference(e)}{_one_batch(e)}"
        )
    outcome = _of_conflict(e)
    return outcome, f"{_conflict(e, pairs)} {_advice(e, outcome)}{_one_batch(e)}"


def _pairs(e: Evidence, chosen: BoolArray) -> list[tuple[int, int]]:
    """Return the pairs of tasks that are chosen, those in the strongest conflict first."""
    i, j = np.triu_indices(len(chosen), 1)
    places = [(a, b) for a, b in zip(i.tolist(), j.tolist(), strict=True) if chosen[a, b]]
    return sorted(places, key=lambda place: float(e.cosines[place]))


def _of_conflict(e: Evidence) -> Outcome:
    if np.isfinite(e.cosines).all() and _common_length(e.cosines) < CANCELLED:
        return "opposed"
    if not _rising(e).any():
        return "tolerable"
    if e.ratio >= FAR_APART and np.nansum(e.cosines, axis=1).min() >= 0.0:
        return "rescale"
    return "conflict"


def _rising(e: Evidence) -> BoolArray:
    """Return the losses that rise along the sum, on average where that is known."""
    known = np.isfinite(e.rates)
    rising: BoolArray = np.where(known, e.rates < -1e-9 * np.abs(e.rates).max(), e.rises > SELDOM)
    return rising


def _common_length(cosines: FloatArray) -> float:
    """Return ‖min-norm point‖ of the unit gradients: how fast all can fall, of 1 for each alone."""
    values, vectors = np.linalg.eigh(cosines)
    k = np.ascontiguousarray((vectors * np.maximum(values, 0.0)) @ vectors.T)  # noise made some < 0
    w = min_norm(k).weights
    return math.sqrt(max(float(w @ k @ w), 0.0))


# ---------------------------------------------------------------------------------------- the words


def _one_batch(e: Evidence) -> str:
    if e.batches > 1:
        return ""
    return " One batch tells nothing of the noise: give several."


def _unclear(e: Evidence, pairs: Sequence[tuple[int, int]]) -> str:
    undone = f" that undo the lengths of the gradients, {_balanced(e)}"
    weights = f"fixed weights{undone if e.ratio >= FAR_APART else ''}"
    if e.overlap < LEAST_OVERLAP:
        return (
            f"The tasks have {e.overlap:.0%} of their samples in common. Below about a third, "
            "cosines of gradients are noise, and say nothing of conflicts: start with "
            f"{weights}, and diagnose batches of common samples."
        )
    return (
        f"These batches do not tell whether {_listed(e, pairs)} conflict: give more or larger "
        f"ones. Until then take {weights}."
    )


def _conflict(e: Evidence, pairs: Sequence[tuple[int, int]]) -> str:
    if len(pairs) == 1:
        return f"{_listed(e, pairs)} conflict."
    return f"Pairs conflict: {_listed(e, pairs)}."


def _listed(e: Evidence, pairs: Sequence[tuple[int, int]]) -> str:
    shown = [f"{e.names[i]} and {e.names[j]} ({_cosine(e, i, j)})" for i, j in pairs[:3]]
    left = len(pairs) - 3
    more = f" and {left} more pair{'s' * (left > 1)}" if left > 0 else ""
    return "; ".join(shown) + more


def _cosine(e: Evidence, i: int, j: int) -> str:
    value, margin = float(e.cosines[i, j]), float(e.margins[i, j])
    if not math.isfinite(value):
        return "cosine unknown"
    return f"cosine {value:.2f}" + (f" ± {margin:.2f}" if 0.0 < margin < math.inf else "")


def _undo_scale(e: Evidence) -> str:
    return (
        f"But lengths of gradients differ {e.ratio:.3g} times, so that a sum trains the longest "
        f"alone. Fixed weights suffice once they undo that: LinearScalarization(base, "
        f"{_balanced(e)})."
    )


def _balanced(e: Evidence) -> str:
    return "[" + ", ".join(f"{w:.3g}" for w in e.balanced) + "]"


def _advice(e: Evidence, outcome: Outcome) -> str:
    if outcome == "rescale":
        return _undo_scale(e)
    if outcome == "tolerable":
        return (
            "Along their sum no loss rises to first order all the same: fixed weights suffice for "
            f"that. {_by_preference(e)}"
        )
    if outcome == "opposed":
        return (
            "The gradients nearly cancel: almost no direction lowers all losses, and what is left "
            f"is the choice of a trade-off. {_by_preference(e)}"
        )
    rising = _rising(e)
    worst = int(np.nanargmin(np.where(rising, np.nan_to_num(e.rates) - e.rises, math.inf)))
    average = " on average" if math.isfinite(e.rates[worst]) else ""
    how = average or f" in {e.rises[worst]:.0%} of the batches"
    exact, flat = e.costs[-1], "SingleLoopMGDA(base): one product C w per step"
    never = (
        f"MGDA(base): {exact.passes} backward passes and {bytes_in_words(exact.gradient_bytes)} of "
        "gradients per step"
        if len(e.names) <= FEW
        else flat
    )
    return (
        f"Along their sum {e.names[worst]} rises to first order{how}. Where no loss may rise along "
        f"the direction, take {never}. {_by_preference(e)}"
    )


def _by_preference(e: Evidence) -> str:
    offset = ", with offset= and unit= for negative losses" if e.negative else ""
    exact = " (EPO with full batches)" if len(e.names) <= FEW and not e.negative else ""
    return (
        "For a proportion of the losses that you name, take PreferenceFeedback(base, preference)"
        f"{offset}: one backward pass per step{exact}."
    )
