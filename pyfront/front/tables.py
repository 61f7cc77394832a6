"""Tables of text and HTML: what a front prints, what a notebook shows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyfront.front.measured import MeasuredSolutions

__all__ = ["aligned", "count_of", "html_table", "printable", "share_of", "solution_rows"]

_MOST_ROWS, _MOST_TASKS, _MOST_SHARES = 20, 8, 4  # that are printed


def aligned(rows: Iterable[Sequence[str]], *, texts: Sequence[int]) -> list[str]:
    """Pad cells to columns of one width: those in `texts` flush left, numbers flush right."""
    cells = list(rows)
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if place in texts else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in cells
    ]


def html_table(caption: str, rows: Iterable[Sequence[str]]) -> str:
    """Write rows, the titles first, as an HTML table; all text is escaped."""
    titles, *body = [[escape(text) for text in row] for row in rows]
    head = "".join(f"<th>{title}</th>" for title in titles)
    lines = "".join(f"<tr>{''.join(f'<td>{text}</td>' for text in row)}</tr>" for row in body)
    return (
        f"<table><caption>{escape(caption)}</caption>"
        f"<thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table>"
    )


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


def printable(text: str) -> str:
    """Write text in one line, with what a terminal would obey as an escape."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def count_of(solutions: int) -> str:
    """Write how many solutions there are."""
    return "1 solution" if solutions == 1 else f"{solutions} solutions"
