"""Tables of text, and of HTML for notebooks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

__all__ = ["aligned", "bytes_in_words", "html_table", "printable", "task_labels"]


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


def printable(text: str) -> str:
    """Write text in one line, with what a terminal would obey as an escape."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def task_labels(tasks: Sequence[str] | None, count: int) -> list[str]:
    """Return what tables call the tasks: their names, or "task 0" and so on."""
    return [f"task {j}" for j in range(count)] if tasks is None else list(map(printable, tasks))


def bytes_in_words(count: float) -> str:
    """Write an amount of memory with three digits.

    Example:
        >>> bytes_in_words(493_648)
        '494 kB'
    """
    for unit in ("B", "kB", "MB", "GB"):
        if count < 999.5 or unit == "GB":
            return f"{count:.3g} {unit}"
        count /= 1000
    raise AssertionError
