"""Preference-guided descent with linear constraints on the losses, in a single loop."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar, NamedTuple, Unpack

import numpy as np

from pyfront._utils.arguments import (
    FloatArray,
    MatrixLike,
    VectorLike,
    require,
    table,
    vector,
)
from pyfront.methods._dual import gathered, onto_simplex, step_length
from pyfront.methods._product_method import ProductMethod, ProductOptions
from pyfront.methods._units import Units
from pyfront.optimizer.bases import Base
from pyfront.optimizer.delegating import Memory
from pyfront.optimizer.names import NamedVector
from pyfront.optimizer.options import Option, number_in
from pyfront.optimizer.preference import Domain
from pyfront.optimizer.presence import Presence
from pyfront.report import Report

__all__ = ["FERERO"]


class FERERO(ProductMethod):
    """Descends within a cone of trade-offs, onto a ray and into linear constraints on the losses.

    With A the rows of the cone, H = E l' − e = 0 and G = F l' − f ≤ 0, the dual of the direction is
    ½ wᵀ C w − c λ_hᵀ H − c λ_gᵀ G with w = Aᵀ λ_f + Eᵀ λ_h + Fᵀ λ_g, over λ_f in the simplex,
    λ_g ≥ 0, λ_h free. Each step descends along Jᵀ w and moves λ once down the dual, for which the
    product C w is all it needs. First-order exact in the limit of small learning rates and full
    gradients: λ follows the dual's optimum, and what it swings about it, by less than ρ/3 a step,
    moves the parameters by the learning rate times that. That it does follow is measured, not
    proved. Entries of w can be negative and do not sum to 1.

    At the first step λ_f is uniform, λ_h = ρ H / max(‖(H, G)‖, ‖l'‖), and λ_g the positive part of
    the same. A preference that is given for one call is answered with these, and leaves the
    multipliers as they are.

    Args:
        base: the optimizer that makes the step, or a list of them.
        preference: r, [m], entries > 0, or None: the ray l' ∝ 1/r, as H = r∘l' − mean(r∘l').
        cone: A, [K, m], or None for the identity: only changes of the losses with A Δl ≤ 0 count as
            descent. Row sums > 0; rows are scaled to sum 1.
        equalities: (E, e), [K, m] and [K], or None.
        inequalities: (F, f), [K, m] and [K], or None.
        gain: c > 0: constraints are met at the speed exp(−c t), where a step takes time lr.
        rate: ρ > 0: the length of the first step of λ.
        offset: o, [m] or None: l' = (l − o) / unit.
        unit: u > 0, [m] or None.
        **common: keywords of :class:`~pyfront.product_method.ProductMethod`.

    While a task has no data, the others keep the weights that the multipliers of all rows give
    them; only those of rows about tasks with data move. Before every task has had data once, the
    rows of the cone are over the others, and constraints that name an absent one are left out.

    Raises:
        ValueError: an argument out of its range or of the wrong shape; it is named.

    Example:
        >>> x = torch.nn.Parameter(torch.tensor([1.0, 1.0]))
        >>> opt = FERERO(torch.optim.SGD([x], lr=0.1), preference=[0.5, 0.5])
        >>> [opt.step([x[0] ** 2, 3 * x[1] ** 2]).weights[0].item() > w for w in (0.4, 0.6)]
        [True, True]

    Source: Chen et al., FERERO, 2024, the single-loop algorithm; the step length of λ
    (:func:`pyfront.dual.step_length`) and its start are ours.
    """

    preference_domain: ClassVar[Domain] = "optional"
    per_task: ClassVar[dict[str, float]] = {"multipliers": math.nan, "pace": 0.0}  # per row

    gain = Option[float](number_in(above=0.0))
    rate = Option[float](number_in(above=0.0))

    def __init__(
        self,
        base: Base,
        preference: NamedVector | None = None,
        *,
        cone: MatrixLike | None = None,
        equalities: tuple[MatrixLike, VectorLike] | None = None,
        inequalities: tuple[MatrixLike, VectorLike] | None = None,
        gain: float = 1.0,
        rate: float = 0.2,
        offset: VectorLike | None = None,
        unit: VectorLike | None = None,
        **common: Unpack[ProductOptions],
    ) -> None:
        super().__init__(base, preference, **common)
        self.gain = gain
        self.rate = rate
        self.units = Units(offset, unit)
        self.cone = None if cone is None else _checked_cone(cone)
        self.equalities = _checked_rows("equalities", equalities)
        self.inequalities = _checked_rows("inequalities", inequalities)

    def check_tasks(self, tasks: int) -> None:
        """Require one loss per column of the cone and of the constraints."""
        rows = {"cone": self.cone}
        rows |= {
            n: p and p[0]
            for n, p in (("equalities", self.equalities), ("inequalities", self.inequalities))
        }
        for name, matrix in rows.items():
            if matrix is not None and matrix.shape[1] != tasks:
                raise ValueError(
                    f"{name}: expected {tasks} columns, one per task, got {matrix.shape[1]}"
                )

    def check_memory(self, memory: Memory) -> None:
        """Require multipliers for as many rows as the cone, preference and constraints have."""
        super().check_memory(memory)
        if "multipliers" not in memory:
            return
        saved = memory.get("rows", {})
        own = self.memory.get("preference")
        for name, ours in self._row_counts(own, int(saved.get("tasks", 0))).items():
            if saved.get(name) != ours:
                raise ValueError(
                    f"state_dict: its multipliers are of {saved.get(name)} rows of {name}, "
                    f"expected {ours}"
                )

    def decide(
        self, losses: FloatArray, gramian: FloatArray | None, preference: FloatArray | None
    ) -> Report:
        """Return w = Aᵀ λ_f + Eᵀ λ_h + Fᵀ λ_g at the λ that earlier steps have left."""
        units = self.units.among(self.present)
        weights = self._weights_of_all(preference)
        if weights is None:
            at = self._rows_at(losses, preference)
            weights = at.matrix.T @ self._multipliers(losses, at)[0]
        return Report(weights=units.of_losses(weights))

    def observe(self, report: Report, product: FloatArray, preference: FloatArray | None) -> Report:
        """Move λ by one projected step down the dual."""
        assert report.losses is not None
        losses = report.losses.numpy()
        at = self._rows_at(losses, preference)
        cone, free = at.cone, at.free
        unit = self.units.among(self.present).unit
        compared = product if unit is None else product / unit
        slope = at.matrix @ compared - self.gain * at.values
        slope[:cone] -= slope[:cone].mean()
        length, pace = step_length(self.rate, slope, self._pace(slope.size))
        multipliers, share = self._multipliers(losses, at)
        moved = multipliers - length * slope
        moved[:cone] = share * onto_simplex(moved[:cone])
        moved[free:] = np.maximum(moved[free:], 0.0)
        tasks = losses.size if self.present is None else self.present.tasks
        self.memory.update(
            multipliers=moved.tolist(), pace=pace, rows=self._row_counts(preference, tasks)
        )
        return report

    # ------------------------------------------------------------------------------------ the parts

    def places(self, name: str, presence: Presence) -> tuple[Sequence[int], int]:
        """Return which rows are kept for the tasks present, and how many rows there are."""
        if name not in self.per_task:
            return presence
        all_tasks = (presence.places, presence.tasks)
        cone = self.cone
        parts = [all_tasks if cone is None else (_with_sum(cone, presence), len(cone))]
        if "preference" in self.memory:
            parts.append(all_tasks)
        for rows in (self.equalities, self.inequalities):
            if rows is not None:
                parts.append((_about(rows[0], presence), len(rows[0])))
        places: list[int] = []
        count = 0
        for kept, rows_of_part in parts:
            places += [count + row for row in kept]
            count += rows_of_part
        return places, count

    def memory_among(self, memory: Memory, presence: Presence) -> Memory:
        """Return the memory for the tasks present, and the multipliers of all rows beside it."""
        draft = super().memory_among(memory, presence)
        if not presence.complete and "multipliers" in draft:
            draft["of_all"] = memory["multipliers"]
        return draft

    def memory_after(self, memory: Memory, draft: Memory, presence: Presence) -> Memory:
        """Return the memory of all tasks, without what was put beside it."""
        draft.pop("of_all", None)
        return super().memory_after(memory, draft, presence)

    def _weights_of_all(self, preference: FloatArray | None) -> FloatArray | None:
        """Return w of the tasks present by the multipliers of all rows; None where some have none.

        Without the rows that tie them to an absent task, those that are often alone in a batch
        would descend at full speed there, and drive the losses from the ray.
        """
        multipliers = self.memory.get("of_all")
        if multipliers is None or None in multipliers:
            return None
        assert self.present is not None
        m = self.present.tasks
        parts = [np.eye(m) if self.cone is None else self.cone]
        if preference is not None:
            r = np.array(self.memory["preference"])
            parts.append(np.diag(r / r.mean()) - r / r.sum())
        parts += [rows[0] for rows in (self.equalities, self.inequalities) if rows is not None]
        known = np.array(multipliers)
        cone = len(parts[0])
        known[:cone], _ = gathered(known[:cone], 1.0)
        return self.among(np.vstack(parts).T @ known)

    def _rows_at(self, losses: FloatArray, preference: FloatArray | None) -> _Rows:
        m, present = losses.size, self.present or Presence(list(range(losses.size)), losses.size)
        compared = self.units.among(present).compared(losses)
        cone = np.eye(m) if self.cone is None else _cone_among(self.cone, present)
        equal, right = _rows_among(self.equalities, present)
        if preference is not None:
            r = preference / preference.mean()
            equal = np.vstack([np.diag(r) - r / m, equal])
            right = np.append(np.zeros(m), right)
        below, bound = _rows_among(self.inequalities, present)
        values = np.concatenate(
            [np.zeros(len(cone)), equal @ compared - right, below @ compared - bound]
        )
        matrix = np.vstack([cone, equal, below])
        return _Rows(matrix, values, len(cone), len(cone) + len(equal))

    def _multipliers(self, losses: FloatArray, at: _Rows) -> tuple[FloatArray, float]:
        """Return λ that earlier steps have left, or of a first step.

        The second number is the share that these rows of the cone have in λ_f of all rows.
        """
        compared = self.units.among(self.present).compared(losses)
        largest = max(np.linalg.norm(at.values), np.linalg.norm(compared))
        start = self.rate * at.values / (largest or 1.0)
        start[at.free :] = np.maximum(start[at.free :], 0.0)
        start[: at.cone] = math.nan
        kept = self.recalled("multipliers", start)
        multipliers = np.where(np.isnan(kept), start, kept)
        multipliers[: at.cone], share = gathered(multipliers[: at.cone], 1.0)
        return multipliers, share

    def _row_counts(self, preference: object, tasks: int) -> dict[str, int]:
        return {
            "tasks": tasks,
            "cone": tasks if self.cone is None else len(self.cone),
            "preference": 0 if preference is None else tasks,
            "equalities": 0 if self.equalities is None else len(self.equalities[1]),
            "inequalities": 0 if self.inequalities is None else len(self.inequalities[1]),
        }


class _Rows(NamedTuple):
    """The constraints on the losses at one point."""

    matrix: FloatArray  # [A; E; F], [K, m]
    values: FloatArray  # (0, H, G), [K]
    cone: int  # rows of A
    free: int  # rows of A and E


def _with_sum(cone: FloatArray, presence: Presence) -> list[int]:
    """Return the rows whose sum over the tasks present is > 0; the first where there is none."""
    sums = cone[:, presence.places].sum(axis=1)
    return [int(row) for row in np.flatnonzero(sums > 0.0)] or [0]


def _cone_among(cone: FloatArray, presence: Presence) -> FloatArray:
    """Return these rows for the tasks present, scaled to sum 1; their mean where there is none."""
    if presence.complete:
        return cone
    rows = cone[np.ix_(_with_sum(cone, presence), presence.places)]
    sums = rows.sum(axis=1, keepdims=True)
    if not sums[0] > 0.0:
        return np.full((1, len(presence.places)), 1.0 / len(presence.places))
    scaled: FloatArray = rows / sums
    return scaled


def _about(matrix: FloatArray, presence: Presence) -> list[int]:
    """Return the constraints that say nothing about an absent task."""
    absent = np.delete(matrix, presence.places, axis=1)
    return [int(row) for row in np.flatnonzero(~absent.any(axis=1))]


def _rows_among(
    rows: tuple[FloatArray, FloatArray] | None, presence: Presence
) -> tuple[FloatArray, FloatArray]:
    if rows is None:
        return np.zeros((0, len(presence.places))), np.zeros(0)
    kept = _about(rows[0], presence)
    return rows[0][np.ix_(kept, presence.places)], rows[1][kept]


def _checked_cone(value: MatrixLike) -> FloatArray:
    cone = table("cone", value).copy()
    sums = cone.sum(axis=1)
    for index, total in enumerate(sums.tolist()):
        if not 0.0 < total < float("inf"):
            raise ValueError(f"cone[{index}]: its sum is {total:g}, must be finite and > 0")
    cone /= sums[:, None]
    return cone


def _checked_rows(
    name: str, value: tuple[MatrixLike, VectorLike] | None
) -> tuple[FloatArray, FloatArray] | None:
    if value is None:
        return None
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        raise TypeError(f"{name}: expected a pair of a matrix and a vector, got {value!r}")
    matrix = table(f"{name}[0]", value[0]).copy()
    right = vector(f"{name}[1]", value[1], len(matrix)).copy()
    require(f"{name}[0]", matrix.ravel())
    require(f"{name}[1]", right)
    return matrix, right
