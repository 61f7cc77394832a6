"""Solutions beside those of a baseline at the same preferences."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from pyfront._utils.tables import aligned, html_table, printable
from pyfront.front.measured import MeasuredSolutions
from pyfront.front.solution import SPLIT_WORDS, DataSplit, Solution
from pyfront.front.tables import count_of, share_of

__all__ = ["Compared", "Comparison", "Figures", "compare"]


class Figures(NamedTuple):
    """What is compared: 0, and less than the baseline's, are better.

    Args:
        angle: between the losses and the ray l ∝ 1/r, in degrees.
        worst: the largest relative loss, max_j r_j l_j with r scaled to sum 1.
        mean: the mean of the losses.

    Example:
        >>> Figures(angle=0.0, worst=0.25, mean=0.5).worst
        0.25
    """

    angle: float
    worst: float
    mean: float


class Compared(NamedTuple):
    """A solution with its figures, and those of the baseline at the same preference.

    Args:
        solution: of another method than the baseline.
        own: its figures.
        baseline: the baseline's; their mean where it has several solutions at this preference.

    Example:
        >>> s = Solution(method="EPO", preference=[0.5, 0.5], train_losses=[0.5, 0.5])
        >>> Compared(s, Figures(0.0, 0.25, 0.5), Figures(3.0, 0.3, 0.5)).baseline.worst
        0.3
    """

    solution: Solution
    own: Figures
    baseline: Figures


class Comparison(Sequence[Compared]):
    """The rows of :meth:`Front.compare`; printed, and in notebooks, they are a table.

    Args:
        rows: one per solution.
        baseline: the method of the baseline.
        split: whose losses are compared.

    Example:
        >>> Comparison([], "linear", "test")
        Beside linear: 0 solutions, test losses
    """

    def __init__(self, rows: Sequence[Compared], baseline: str, split: DataSplit) -> None:
        """See the class."""
        self._rows = tuple(rows)
        self.baseline = baseline
        self.split = split

    def __len__(self) -> int:
        """Return the number of solutions that are compared."""
        return len(self._rows)

    def __getitem__(self, index: Any) -> Any:
        """Return one row, or the rows of a slice."""
        return self._rows[index]

    @property
    def below(self) -> int:
        """How many solutions have a largest relative loss below the baseline's.

        Example:
            >>> Comparison([], "linear", "test").below
            0
        """
        return sum(row.own.worst < row.baseline.worst for row in self)

    def __repr__(self) -> str:
        """Show a table."""
        rows = aligned(self._cells(), texts=(0, 1)) if self else []
        return "\n".join([self._caption(), *rows])

    def _repr_html_(self) -> str:
        return html_table(self._caption(), self._cells())

    def _caption(self) -> str:
        text = f"Beside {printable(self.baseline)}: {count_of(len(self))}"
        text += f", {SPLIT_WORDS[self.split]} losses"
        return text + (f"; worst r·l below at {self.below}" if self else "")

    def _cells(self) -> Iterator[list[str]]:
        """Yield titles, then one row per solution: its angle, worst r·l and mean, each beside."""
        name = printable(self.baseline)
        yield ["method", "preference", "angle", name, "worst r·l", name, "mean loss", name]
        for solution, own, baseline in self:
            pairs = zip(own, baseline, strict=True)
            angles, *others = pairs
            yield [
                printable(solution.method),
                share_of(solution.preference),
                *(f"{angle:.2f}°" for angle in angles),
                *(f"{value:.4g}" for pair in others for value in pair),
            ]


def compare(front: MeasuredSolutions, baseline: str, split: DataSplit | None) -> Comparison:
    """Set the solutions of other methods beside the baseline's: see `Front.compare`."""
    split = front.common_split if split is None else split
    figures = [
        Figures(*row)
        for row in zip(
            front.angles(split).tolist(),
            front.relative_losses(split).max(axis=1, initial=-np.inf).tolist(),
            front.losses(split).mean(axis=1).tolist(),
            strict=True,
        )
    ]
    beside: dict[tuple[float, ...], list[Figures]] = {}
    for s, row in zip(front, figures, strict=True):
        if s.method == baseline and s.preference is not None:
            beside.setdefault(_ray(s.preference), []).append(row)
    if not beside:
        methods = ", ".join(map(repr, front.by_method())) or "none"
        raise ValueError(
            f"baseline = {baseline!r}: no solution of this method with a preference; "
            f"methods here: {methods}"
        )
    rows = []
    for s, row in zip(front, figures, strict=True):
        if s.method == baseline or s.preference is None:
            continue
        found = beside.get(_ray(s.preference))
        if found is not None:
            rows.append(Compared(s, row, Figures(*np.mean(found, axis=0).tolist())))
    return Comparison(rows, baseline, split)


def _ray(preference: Sequence[float]) -> tuple[float, ...]:
    """Return r scaled to sum 1, to twelve digits: equal for preferences with one ray."""
    total = sum(preference)
    return tuple(round(value / total, 12) for value in preference)
