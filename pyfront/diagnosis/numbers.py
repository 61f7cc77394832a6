"""From inner products to the numbers of a diagnosis."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import torch

from pyfront._utils.arguments import BoolArray, FloatArray
from pyfront._utils.tables import task_labels
from pyfront.diagnosis.costs import step_costs
from pyfront.diagnosis.diagnosis import Diagnosis
from pyfront.diagnosis.measure import Measured
from pyfront.diagnosis.verdict import Evidence, judge

__all__ = ["diagnosis_of"]

ROUNDING = 1e-9  # of a sum of inner products, relative to their magnitudes

# 97.5% points of Student's t for 1 to 10 degrees of freedom; the last one serves beyond
T_QUANTILES = np.array([12.71, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228])


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
    cosines, errors, margins = _cosines(gramians)
    c = _mean(gramians)
    evidence = Evidence(
        names=task_labels(x.tasks, m),
        batches=len(x.losses),
        shared=len(shared),
        norms=np.sqrt(np.nan_to_num(np.diagonal(c))),
        cosines=cosines,
        margins=margins,
        rises=_rises(gramians),
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
        cosines=torch.from_numpy(cosines),
        cosine_errors=torch.from_numpy(errors),
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


def _cosines(gramians: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return mean cosines, their standard errors, and how far the means may be off.

    A gradient of zero conflicts with none.
    """
    lengths = np.sqrt(np.diagonal(gramians, axis1=1, axis2=2))
    products = lengths[:, :, None] * lengths[:, None, :]
    cosines = np.divide(gramians, products, out=gramians * 0.0, where=products > 0.0)
    mean = np.clip(_mean(cosines), -1.0, 1.0)
    freedom = np.isfinite(cosines).sum(axis=0) - 1
    squares = _mean((cosines - mean) ** 2)
    errors = np.full_like(mean, math.nan)
    np.divide(squares, freedom, out=errors, where=freedom > 0)
    errors = np.sqrt(errors)
    if len(gramians) == 1:
        return mean, errors, np.zeros_like(errors)
    t = T_QUANTILES[np.clip(freedom - 1, 0, T_QUANTILES.size - 1)]
    return mean, errors, np.where(freedom > 0, t * errors, math.inf)


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
    """Return the share of ‖g_j‖² that is common to the batches, and whether it may be none.

    Products of different batches, t_b = ⟨Σ_{a<b} g^a, g^b⟩, have the mean (b − 1)‖E g‖². Without a
    common part they are martingale differences, and Σ t_b / √Σ t_b² is of size 1; with nothing but
    it that is 1.3 for 3 batches, 2.4 for 8.
    """
    t = np.nan_to_num(x.along_earlier)
    pairs = np.where(np.isfinite(x.along_earlier), x.earlier, 0.0).sum(axis=0)
    square = _mean(x.squares)
    signal = np.full_like(square, math.nan)
    np.divide(t.sum(axis=0), pairs * square, out=signal, where=(pairs > 0.0) & (square > 0.0))
    spread = np.sqrt((t**2).sum(axis=0))
    noise = (np.isfinite(x.along_earlier).sum(axis=0) >= 2) & (t.sum(axis=0) < spread)
    return signal, noise | (square == 0.0)
