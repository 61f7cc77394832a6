"""From inner products to the numbers of a diagnosis."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch

from pyfront._utils.arguments import BoolArray, FloatArray
from pyfront._utils.tables import task_labels
from pyfront.diagnosis.costs import step_costs
from pyfront.diagnosis.diagnosis import Diagnosis
from pyfront.diagnosis.measure import Measured
from pyfront.diagnosis.student import student_quantile
from pyfront.diagnosis.verdict import CONFLICT, UNCLEAR, Evidence, judge

__all__ = ["diagnosis_of"]

ROUNDING = 1e-9  # of a sum of inner products, relative to their magnitudes
TAIL = 0.025  # probability that noise alone is beyond a margin, to one side


def diagnosis_of(x: Measured, names: Sequence[str], overlap: float) -> Diagnosis:
    """Return the diagnosis of what was measured.

    Args:
        x: inner products of B batches.
        names: of the parameters.
        overlap: the share of samples that the tasks have in common.
    """
    m = x.losses.shape[1]
    shared, own, unreached = _roles(x, names)
    gramians = x.gramians.copy()
    if not shared:
        gramians[:, np.arange(m), np.arange(m)] = x.squares
    within = _cosines(gramians)
    expected = _expected_cosines(x.across)
    c = _mean(gramians)
    chosen = _within_where_noise_hides(expected, within)
    evidence = Evidence(
        names=task_labels(x.tasks, m),
        batches=len(x.losses),
        shared=len(shared),
        norms=np.sqrt(np.nan_to_num(np.diagonal(c))),
        cosines=np.where(chosen, within.means, expected.means),
        margins=np.where(chosen, within.margins(2), expected.margins(2)),
        strict_margins=np.where(chosen, within.margins(m), expected.margins(m)),
        rises=_rises(gramians),
        rates=_mean(x.across).sum(axis=1) if not chosen.any() else np.full(m, math.nan),
        overlap=overlap,
        negative=bool((x.losses < 0.0).any()),
        costs=step_costs(m, x.row_bytes),
    )
    signal, still = _signal(x)
    return Diagnosis(
        *judge(evidence),
        tasks=x.tasks,
        batches=evidence.batches,
        losses=torch.from_numpy(_mean(x.losses)),
        present=torch.from_numpy(np.isfinite(x.losses).mean(axis=0)),
        norms=torch.from_numpy(evidence.norms),
        norm_ratio=evidence.ratio,
        gramian=torch.from_numpy(c),
        condition=_condition(c),
        cosines=torch.from_numpy(within.means),
        cosine_errors=torch.from_numpy(within.errors),
        expected_cosines=torch.from_numpy(expected.means),
        expected_cosine_errors=torch.from_numpy(expected.errors),
        signal=torch.from_numpy(signal),
        rises=torch.from_numpy(evidence.rises),
        balanced_weights=torch.from_numpy(evidence.balanced),
        shared=shared,
        task_specific=own,
        unreached=unreached,
        at_floor=_places(still),
        negative=_places((x.losses < 0.0).any(axis=0)),
        costs=tuple(evidence.costs),
    )


Names: TypeAlias = tuple[str, ...]


def _roles(x: Measured, names: Sequence[str]) -> tuple[Names, tuple[Names, ...], Names]:
    """Return the parameters that are shared, those of each task alone, and those of none."""
    found = list(zip(names, x.reaching, strict=True))
    return (
        tuple(name for name, tasks in found if len(tasks) > 1),
        tuple(
            tuple(name for name, tasks in found if tasks == {task})
            for task in range(x.losses.shape[1])
        ),
        tuple(name for name, tasks in found if not tasks),
    )


def _places(chosen: Any) -> tuple[int, ...]:
    return tuple(map(int, np.flatnonzero(chosen)))


def _mean(values: FloatArray) -> FloatArray:
    """Return the mean over the batches of what is there, NaN where nothing is."""
    there = np.isfinite(values)
    count = there.sum(axis=0)
    mean = np.full(values.shape[1:], math.nan)
    np.divide(np.where(there, values, 0.0).sum(axis=0), count, out=mean, where=count > 0)
    return mean


class Cosines(NamedTuple):
    """Cosines, [m, m], with what is known of their errors; NaN where nothing is.

    Attributes:
        means: over so many values.
        errors: standard errors of the means.
        counts: of the values.
        one_batch: there is one batch alone, and errors are taken for zero.
    """

    means: FloatArray
    errors: FloatArray
    counts: FloatArray
    one_batch: bool = False

    def margins(self, tasks: int) -> FloatArray:
        """Return how far noise moves a mean, or the one that it moves furthest of so many tasks."""
        if self.one_batch:
            return np.zeros_like(self.means)
        tail = 2.0 * TAIL / max(2, tasks * (tasks - 1))
        out = np.full_like(self.means, math.inf)
        for count in np.unique(self.counts[self.counts > 1]).tolist():
            here = self.counts == count
            out[here] = student_quantile(tail, int(count) - 1) * self.errors[here]
        return out


def _within_where_noise_hides(expected: Cosines, within: Cosines) -> BoolArray:
    """Return the pairs that cosines of single batches have to tell of, [m, m].

    They do where there are too few batches for the expected ones, and where noise hides these but
    not a conflict within the batches. That they show none is no evidence: noise shrinks them.
    """
    m = len(within.means)
    low, high = expected.means - expected.margins(2), expected.means + expected.margins(m)
    decided = (high < -CONFLICT) | (low >= -UNCLEAR)
    conflict = within.means + within.margins(m) < -CONFLICT
    without = (within.means == 0.0) & (within.errors == 0.0)  # a gradient of zero
    chosen: BoolArray = (expected.counts < 2) | (~decided & (conflict | without))
    return chosen


def _error(values: FloatArray, mean: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the standard errors of means over the first axis, and the counts of values."""
    counts = np.isfinite(values).sum(axis=0).astype(np.float64)
    squares = _mean((values - mean) ** 2)
    errors = np.full_like(mean, math.nan)
    np.divide(squares, counts - 1.0, out=errors, where=counts > 1.0)
    return np.sqrt(errors), counts


def _cosines(gramians: FloatArray) -> Cosines:
    """Return the mean cosines of single batches; a gradient of zero conflicts with none."""
    lengths = np.sqrt(np.diagonal(gramians, axis1=1, axis2=2))
    products = lengths[:, :, None] * lengths[:, None, :]
    cosines = np.divide(gramians, products, out=gramians * 0.0, where=products > 0.0)
    mean = np.clip(_mean(cosines), -1.0, 1.0)
    return Cosines(mean, *_error(cosines, mean), one_batch=len(gramians) == 1)


def _expected_cosines(across: FloatArray) -> Cosines:
    """Return the cosines of the expected gradients E g_j.

    Noise of different batches is independent: the means of their inner products are those of the
    expected gradients. NaN where such a length is not seen beyond its standard error.
    """
    mean = _mean(across)
    errors, counts = _error(across, mean)
    seen = np.diagonal(mean) > np.diagonal(errors)  # NaN is not
    lengths = np.sqrt(np.where(seen, np.diagonal(mean), math.nan))
    products = lengths[:, None] * lengths
    own = np.diagonal(counts)
    counts = np.minimum(counts, np.minimum(own[:, None], own))
    return Cosines(np.clip(mean / products, -1.0, 1.0), errors / products, counts)


def _rises(gramians: FloatArray) -> FloatArray:
    """Return the share of batches with (C 1)_j < 0, of those with data for task j."""
    there = np.isfinite(np.diagonal(gramians, axis1=1, axis2=2))
    sums = np.nansum(gramians, axis=2)
    rounding = ROUNDING * np.nansum(np.abs(gramians), axis=2)
    return _mean(np.where(there, sums < -rounding, math.nan))


def _condition(c: FloatArray) -> float:
    if not np.isfinite(c).all():
        return math.nan
    values = np.linalg.eigvalsh(c)
    low, high = float(values[0]), float(values[-1])
    return high / low if low > 1e-15 * len(c) * high else math.inf


def _signal(x: Measured) -> tuple[FloatArray, BoolArray]:
    """Return the share of ‖g_j‖² that is common to the batches, and whether it may be none."""
    square, common = _mean(x.squares), _mean(x.squares_across)
    error, _ = _error(x.squares_across, common)
    signal = np.full_like(square, math.nan)
    np.divide(common, square, out=signal, where=square > 0.0)
    return signal, (common < error) | (square == 0.0)
