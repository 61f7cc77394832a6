"""The table of a front: its solutions in rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from pyfront._utils.tables import printable

if TYPE_CHECKING:
    from pyfront.front.measured import MeasuredSolutions

__all__ = ["count_of", "share_of", "solution_rows"]

_MOST_ROWS, _MOST_TASKS, _MOST_SHARES = 20, 8, 4  # that are printed


def solution_rows(front: MeasuredSolutions) -> Iterator[list[str]]:
    """Yield titles, then one row per solution; the middle of a long front is left out."""
    names = front.tasks[:_MOST_TASKS]
    more = ["…"] if len(names) < len(front.tasks) else []
    yield ["", "method", "preference", *map(printable, names), *more]
    points = front.losses()
    half = _MOST_ROWS // 2
    for index, s in enumerate(front):
        if len(front) > _MOST_ROWS and half <= index < len(front) - half:
            if index == half:
                yield ["…", *[""] * (2 + len(names) + len(more))]
            continue
        losses = [f"{loss:.4g}" for loss in points[index, :_MOST_TASKS]]
        yield [str(index), printable(s.method), share_of(s.preference), *losses, *more]


def share_of(preference: Sequence[float] | None) -> str:
    """Write a preference with three digits; "any" for none."""
    if preference is None:
        return "any"
    shown = [format(value, "#.3g") for value in preference[:_MOST_SHARES]]
    return f"({', '.join(shown + ['…'] * (len(preference) > _MOST_SHARES))})"


def count_of(solutions: int) -> str:
    """Write how many solutions there are."""
    return "1 solution" if solutions == 1 else f"{solutions} solutions"
