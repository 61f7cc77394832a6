"""Measures of a set of loss vectors: dominance, hypervolume, IGD+, angles, the knee.

Points are rows of losses, [k, m] float64, and smaller is better in every task. `Front` calls these
with its own losses and documents them.
"""

import math
from types import ModuleType
from typing import Any, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pyfront._utils.extras import import_extra
from pyfront.preferences import to_reference_vectors

__all__ = [
    "MOST_TASKS",
    "ROUNDING",
    "Floats",
    "Hypervolume",
    "angles",
    "first_least",
    "hypervolume",
    "igd_plus",
    "knee",
    "non_dominated",
    "rays",
    "reference_point",
]

Floats: TypeAlias = NDArray[np.float64]

# moocore's exact algorithm takes O(k^(m − 2)) in the worst case. One Xeon core took 0.1 s where
# that is 1e11, 1 s at 1e12, and less than a millisecond for 12 points in any number of tasks.
_COST_LIMIT = 1e11
_FEW_POINTS = 12
#: moocore takes no more.
MOST_TASKS = 31
#: Bound of the relative error of a few float64 operations.
ROUNDING = 8.0 * float(np.finfo(np.float64).eps)


class Hypervolume(float):
    """A hypervolume: a float with its reference point, its split and whether it is exact.

    It prints with "≈" where it is an approximation. Comparing, subtracting or dividing two that
    have different reference points or splits raises an error: such numbers are not comparable.

    Args:
        value: the volume.
        reference: the reference point, m numbers.
        exact: False for an approximation.
        split: "train" or "test", whose losses it is of; None where that is not known.

    Raises:
        ValueError: two hypervolumes with different reference points or splits are compared.

    Example:
        >>> print(f"{Hypervolume(2.0, (3.0, 2.0), exact=False):8.3f}")
          ≈2.000
    """

    reference: tuple[float, ...]
    exact: bool
    split: str | None

    def __new__(
        cls,
        value: float,
        reference: tuple[float, ...],
        exact: bool = True,
        split: str | None = None,
    ) -> Self:
        """See the class."""
        self = super().__new__(cls, value)
        self.reference = tuple(reference)
        self.exact = exact
        self.split = split
        return self

    def __getnewargs__(self) -> tuple[Any, ...]:  # for pickle and copy
        return float(self), self.reference, self.exact, self.split

    def _check(self, other: object) -> None:
        if not isinstance(other, Hypervolume):
            return
        if other.reference != self.reference:
            raise ValueError(
                "hypervolumes with different reference points cannot be compared: "
                f"{self.reference} and {other.reference}"
            )
        if self.split and other.split and self.split != other.split:
            raise ValueError(
                "hypervolumes of different splits cannot be compared: "
                f"{self.split!r} and {other.split!r}"
            )

    def __lt__(self, other: float) -> bool:
        self._check(other)
        return super().__lt__(other)

    def __le__(self, other: float) -> bool:
        self._check(other)
        return super().__le__(other)

    def __gt__(self, other: float) -> bool:
        self._check(other)
        return super().__gt__(other)

    def __ge__(self, other: float) -> bool:
        self._check(other)
        return super().__ge__(other)

    def __eq__(self, other: object) -> bool:
        self._check(other)
        return super().__eq__(other)

    def __ne__(self, other: object) -> bool:
        self._check(other)
        return super().__ne__(other)

    __hash__ = float.__hash__

    def __sub__(self, other: float) -> float:
        self._check(other)
        return super().__sub__(other)

    def __truediv__(self, other: float) -> float:
        self._check(other)
        return super().__truediv__(other)

    def __repr__(self) -> str:
        return format(self)

    def __format__(self, spec: str) -> str:
        text = format(float(self), spec)
        if self.exact:
            return text
        number = text.lstrip()
        return f"≈{number}".rjust(len(text))


def non_dominated(points: Floats) -> NDArray[np.bool_]:
    """Tell for each point whether none is ≤ it in every task and < it in at least one, [k]."""
    worse = [
        bool(((points <= point).all(axis=1) & (points < point).any(axis=1)).any())
        for point in points
    ]
    return ~np.array(worse, dtype=bool)


def reference_point(points: Floats) -> Floats:
    """Return a point a tenth beyond the worst losses: max_i l_ij + |max_i l_ij| / 10, [m]."""
    worst = points.max(axis=0)
    return np.asarray(worst + 0.1 * np.abs(worst))


def hypervolume(points: Floats, reference: Floats, split: str | None = None) -> Hypervolume:
    """Return the volume between the points and a reference that no point exceeds.

    Exact (Guerreiro and Fonseca's algorithms in moocore) while the worst case k^(m − 2) of k
    non-dominated points is affordable; beyond that López-Ibáñez' deterministic integration over
    directions in moocore, which was within 2e-3 of the exact value up to 8 tasks, 1e-2 at 10, 5% at
    20 and 17% at 30.
    """
    moocore = _moocore(points)
    corner = tuple(reference.tolist())
    best = points[non_dominated(points)]
    count, tasks = best.shape
    if count <= _FEW_POINTS or (tasks - 2) * math.log(count) <= math.log(_COST_LIMIT):
        return Hypervolume(moocore.hypervolume(best, ref=reference), corner, split=split)
    return Hypervolume(moocore.hv_approx(best, ref=reference), corner, exact=False, split=split)


def _moocore(points: Floats) -> ModuleType:
    if points.shape[1] > MOST_TASKS:
        raise ValueError(
            f"front: {points.shape[1]} tasks; hypervolume and IGD+ take at most {MOST_TASKS}"
        )
    return import_extra("moocore", "front")


def igd_plus(points: Floats, target: Floats) -> float:
    """Return the mean over z in target of min_i ‖max(l_i − z, 0)‖₂ (Ishibuchi et al. 2015)."""
    return float(_moocore(points).igd_plus(points, ref=target))


def rays(preferences: Floats) -> Floats:
    """Return the unit directions in loss space where r∘l is uniform, [k, m]; NaN rows stay NaN.

    For a preference with zeros it is the limit of small equal entries in their place: equal entries
    for the tasks with r_j = 0, and 0 for the others.
    """
    out = np.full(preferences.shape, np.nan)
    for row, r in zip(out, preferences, strict=True):
        if not np.isnan(r).any():
            zero = r == 0.0
            row[:] = zero / np.sqrt(zero.sum()) if zero.any() else to_reference_vectors(r).numpy()
    return out


def angles(points: Floats, directions: Floats) -> Floats:
    """Return the angle between each point and its unit direction u in degrees, [k].

    atan2(‖l − (l·u) u‖, l·u), which unlike the arccosine keeps small angles; 0 for l = 0.
    """
    size = np.abs(points).max(axis=1, initial=0.0, keepdims=True)
    scaled = points / np.where(size > 0.0, size, 1.0)  # its square neither overflows nor vanishes
    along = (scaled * directions).sum(axis=1)
    across = np.linalg.norm(scaled - along[:, None] * directions, axis=1)
    return np.asarray(np.degrees(np.arctan2(across, along)))


def first_least(values: Floats, tolerance: float) -> int:
    """Return the first index whose value is within `tolerance` of the least one."""
    return int((values <= values.min() + tolerance).argmax())


def knee(points: Floats) -> int:
    """Return the index of the knee among points none of which dominates another.

    With z_j = (l_j − min l_j) / (max l_j − min l_j), it is the point with the least Σ_j z_j, which
    is farthest below the plane Σ_j z_j = 1 through the unit vectors (Das, On characterizing the
    "knee" of the Pareto curve, 1999). Where none lies below that plane, as on a concave front, it
    is the one with the least max_j z_j, then the least Σ_j z_j, then the first. Losses in another
    unit are rounded otherwise, so values closer than the rounding of z count as equal.
    """
    low = points.min(axis=0)
    span = points.max(axis=0) - low
    spread = span > 0.0
    z = (points - low) / np.where(spread, span, 1.0)
    sizes = np.abs(points).max(axis=0)[spread] / span[spread]
    tolerance = ROUNDING * float((1.0 + sizes).sum())
    total, worst = z.sum(axis=1), z.max(axis=1)
    if total.min() < 1.0 - tolerance:
        return first_least(total, tolerance)
    equal = np.flatnonzero(worst <= worst.min() + tolerance)
    return int(equal[first_least(total[equal], tolerance)])
