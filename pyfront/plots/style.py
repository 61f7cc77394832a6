"""Shared by all plots: colours, marks, the legend below."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from pyfront._utils.extras import import_extra
from pyfront.front.front import Front
from pyfront.front.solution import DataSplit

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "COLOURS",
    "drawn_split",
    "legend_below",
    "method_styles",
    "new_figure",
    "plain",
    "share_text",
]

#: Okabe and Ito's palette, which colour-blind readers can tell apart, without its yellow, which is
#: too pale for small marks on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")


def drawn_split(front: Front, split: DataSplit | None) -> DataSplit:
    """Return the split to plot, `front.common_split` for None; raise if nothing can be plotted."""
    if len(front) == 0:
        raise ValueError("front: holds no solution, so there is nothing to draw")
    if front[0].num_tasks < 2:
        raise ValueError("front: 1 task, expected at least 2")
    split = front.common_split if split is None else split
    front.losses(split)  # raises if a solution has none
    return split


def new_figure() -> "Figure":
    """Make an empty figure without any global state of matplotlib."""
    figure: Figure = import_extra("matplotlib.figure", "plots").Figure(
        figsize=(7.5, 6.0), layout="constrained"
    )
    return figure


def method_styles(front: Front) -> dict[str, dict[str, Any]]:
    """Choose a colour and a mark for each method, in the order of their first solutions."""
    return {
        method: {
            "color": COLOURS[index % len(COLOURS)],
            "marker": _MARKERS[index % len(_MARKERS)],
        }
        for index, method in enumerate(front.by_method())
    }


def plain(text: str) -> str:
    """Escape text for matplotlib.

    There a pair of dollar signs begins mathematics, and a name that begins with ``_`` stays out of
    legends: a space of no width goes before it.
    """
    text = text.replace("$", r"\$")
    return f"\u200b{text}" if text.startswith("_") else text


def share_text(preference: Any) -> str:
    """Write r scaled to sum 1, with two digits."""
    total = sum(preference)
    return "(" + ", ".join(f"{value / total:.2g}" for value in preference) + ")"


def legend_below(axes: "Axes") -> None:
    """Put the legend below the axes, where it hides no point, in two rows if it fits."""
    labels = axes.get_legend_handles_labels()[1]
    pairs = -(-len(labels) // 2)
    columns = next((n for n in range(pairs, 1, -1) if _row_length(labels, n) <= 118), 1)
    axes.figure.legend(
        loc="outside lower center", ncols=columns, columnspacing=1.2, fontsize=8, frameon=False
    )


def _row_length(labels: Sequence[str], columns: int) -> int:
    """Estimate the width of a legend in letters, with 6 per column for its marks and the space."""
    parts = np.array_split(np.array([len(label) for label in labels]), columns)
    return sum(6 + int(part.max(initial=0)) for part in parts)
