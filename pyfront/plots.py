"""Pictures of a front."""

import contextlib
import os
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pyfront._extras import require
from pyfront.front import Front

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["plot_front", "save_figure"]

# Okabe and Ito's palette without its yellow, which is too pale for small marks on white.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")


def plot_front(front: Front, *, title: str = "") -> "Figure":
    """The picture of a front of two tasks: rays, and every solution on both splits.

    A preference r is drawn as the ray l ∝ 1/r, where EPO is meant to end. Filled marks are training
    losses, hollow ones test losses, joined by a thin line; all methods are drawn alike but for
    colour and shape. No global state of matplotlib is used, and no display is needed.

    Args:
        front: at least one solution, two tasks.
        title: a line above the picture.

    Returns:
        A matplotlib figure; `save_figure` writes it.

    Raises:
        ValueError: an empty front, or another number of tasks than two.
        ImportError: matplotlib is not installed.

    Example:
        >>> from pyfront.front import Solution
        >>> s = Solution(method="EPO", preference=[0.7, 0.3], train_losses=[0.3, 0.7])
        >>> plot_front(Front([s])).axes[0].get_xlabel()
        'loss of task 1'
    """
    if len(front) == 0:
        raise ValueError("front: holds no solution, so there is nothing to draw")
    if front[0].num_tasks != 2:
        raise ValueError(f"front: {front[0].num_tasks} tasks, expected 2")
    figure: Figure = require("matplotlib.figure", "plots").Figure(
        figsize=(7.5, 6.0), layout="constrained"
    )
    axes = figure.add_subplot()
    points = [s.train_losses for s in front] + [s.test_losses for s in front if s.test_losses]
    edges = [1.06 * np.min(points, axis=0, initial=0.0), 1.06 * np.max(points, axis=0, initial=0.0)]
    axes.set_xlim(edges[0][0], edges[1][0] or 1.0)
    axes.set_ylim(edges[0][1], edges[1][1] or 1.0)
    axes.set_xlabel("loss of task 1")
    axes.set_ylabel("loss of task 2")
    axes.set_title(title, pad=18)  # above the labels of the rays
    for index, method in enumerate(dict.fromkeys(s.method for s in front)):
        style = {"color": _COLOURS[index % 7], "marker": _MARKERS[index % 8]}
        _draw_method(axes, Front(s for s in front if s.method == method), method, style)
    _draw_rays(axes, front)  # last, so that the legend lists the methods first, a pair a column
    _draw_legend(axes)
    return figure


def save_figure(figure: "Figure", path: str | PathLike[str]) -> None:
    """Write a figure as PNG, all or nothing: a file of that name is replaced in one step.

    Raises:
        OSError: the place cannot be written.
    """
    target = Path(path)
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        figure.savefig(part, format="png", dpi=150)
        part.replace(target)
    except BaseException:
        with contextlib.suppress(OSError):
            part.unlink()
        raise


def _draw_rays(axes: "Axes", front: Front) -> None:
    """One dashed line l ∝ 1/r for each different preference, with r where it leaves the picture."""
    corner = np.array([axes.get_xlim()[1], axes.get_ylim()[1]])
    preferences = dict.fromkeys(tuple(s.preference) for s in front if s.preference is not None)
    for index, r in enumerate(preferences):
        ray = 1.0 / np.asarray(r)
        end = ray * np.min(corner / ray)
        label = "ray l ∝ 1/r of a preference r" if index == 0 else None
        axes.plot([0.0, end[0]], [0.0, end[1]], "--", color="0.6", lw=1.0, zorder=1, label=label)
        share = np.asarray(r) / np.sum(r)
        leaves_right = end[0] / corner[0] > end[1] / corner[1] - 1e-9
        axes.annotate(
            f"({share[0]:.2g}, {share[1]:.2g})",
            (end[0], end[1]),
            xytext=(4, 0) if leaves_right else (0, 3),
            textcoords="offset points",
            ha="left" if leaves_right else "center",
            va="center" if leaves_right else "bottom",
            fontsize=8,
            color="0.4",
            annotation_clip=False,
        )


def _draw_method(axes: "Axes", front: Front, method: str, style: dict[str, Any]) -> None:
    """Training losses filled, test losses hollow, each pair joined."""
    train = front.losses("train")
    axes.plot(*train.T, ls="", ms=7, zorder=3, label=f"{method}, training", **style)
    tested = Front(s for s in front if s.test_losses is not None)
    if len(tested) == 0:
        return
    test = tested.losses("test")
    axes.plot(*test.T, ls="", ms=7, mfc="white", zorder=3, label=f"{method}, test", **style)
    for pair in zip(tested.losses("train"), test, strict=True):
        axes.plot(*np.array(pair).T, "-", color=style["color"], lw=0.8, alpha=0.5, zorder=2)


def _draw_legend(axes: "Axes") -> None:
    """Outside the axes, so that it hides no point; one column a method."""
    columns = min(4, -(-len(axes.get_legend_handles_labels()[1]) // 2))
    axes.legend(
        loc="upper center", bbox_to_anchor=(0.5, -0.1), ncols=columns, fontsize=9, frameon=False
    )
    axes.spines[["top", "right"]].set_visible(False)
