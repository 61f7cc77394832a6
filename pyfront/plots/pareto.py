"""Plots of a front in the space of the losses."""

from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pyfront._utils.files import atomic_write
from pyfront.front.front import Front
from pyfront.front.measures import rays
from pyfront.front.solution import SPLIT_WORDS, DataSplit
from pyfront.plots.style import (
    drawn_split,
    legend_below,
    method_styles,
    new_figure,
    plain,
    share_text,
)
from pyfront.plots.tasks import plot_parallel

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["SUFFIXES", "plot_front", "save_figure"]

#: Endings of the files that `save_figure` writes.
SUFFIXES = (".png", ".svg", ".pdf")
#: Width and height of the label of a ray as fractions of the axes; closer ones would overlap.
_LABEL_ROOM = np.array([0.13, 0.03])


def plot_front(front: Front, *, split: DataSplit | None = None, title: str = "") -> "Figure":
    """Plot a front in the plane, in space, or in parallel coordinates.

    Two or three tasks span the axes. A preference r is the ray l ∝ 1/r, where EPO is meant to end.
    Filled marks are training losses, hollow ones test losses, joined by a thin line; methods differ
    in colour and shape only. For two tasks, the area that the solutions dominate is grey. More
    tasks are plotted by `plot_parallel`. Uses no global state of matplotlib and needs no display.

    Args:
        front: at least one solution, two tasks or more.
        split: whose losses dominate, or are drawn in parallel coordinates: "train", "test" or, by
            default, ``front.common_split``.
        title: a line above the plot.

    Returns:
        A matplotlib figure; `save_figure` writes it.

    Raises:
        ValueError: an empty front, one task, or a solution without losses on the split.
        ImportError: matplotlib is not installed.

    Example:
        >>> from pyfront import Solution
        >>> s = Solution(method="EPO", preference=[0.7, 0.3], train_losses=[0.3, 0.7])
        >>> plot_front(Front([s])).axes[0].get_xlabel()
        'loss of task 1'
    """
    split = drawn_split(front, split)
    tasks = front[0].num_tasks
    if tasks > 3:
        return plot_parallel(front, split=split, title=title)
    figure = new_figure()
    axes = figure.add_subplot(projection="3d" if tasks == 3 else None)
    _set_limits(axes, front)
    for name, task in zip("xyz", front.tasks, strict=False):
        getattr(axes, f"set_{name}label")(plain(f"loss of {task}"))
    axes.set_title(plain(title), pad=18)  # above the labels of the rays
    for method, style in method_styles(front).items():
        _draw_method(axes, front.by_method()[method], method, style)
    _draw_rays(axes, front)  # after the methods, whose pairs then fill the columns of the legend
    if tasks == 2:
        _draw_dominated(axes, front, split)
        axes.spines[["top", "right"]].set_visible(False)
    legend_below(axes)
    return figure


def save_figure(figure: "Figure", path: str | PathLike[str]) -> None:
    """Write a figure, all or nothing: a file of that name is replaced in one step.

    Args:
        figure: a figure that one of the plots returned.
        path: ends in ``.png``, ``.svg`` or ``.pdf``, which chooses the format.

    Raises:
        ValueError: another ending.
        OSError: the place cannot be written.

    Example:
        >>> import tempfile
        >>> from pyfront import Solution
        >>> figure = plot_front(Front([Solution(method="a", train_losses=[1.0, 3.0])]))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_figure(figure, Path(folder) / "front.png")
    """
    suffix = Path(path).suffix.lower()
    if suffix not in SUFFIXES:
        raise ValueError(f"path = {str(path)!r}: expected the ending {', '.join(SUFFIXES)}")
    with atomic_write(path) as part:
        figure.savefig(part, format=suffix[1:], dpi=150)


def _set_limits(axes: "Axes", front: Front) -> None:
    """Show from 0 to a little beyond the worst loss of both splits."""
    points = [s.train_losses for s in front] + [s.test_losses for s in front if s.test_losses]
    lows = 1.06 * np.min(points, axis=0, initial=0.0)
    highs = 1.06 * np.max(points, axis=0, initial=0.0)
    for name, low, high in zip("xyz", lows, highs, strict=False):
        getattr(axes, f"set_{name}lim")(low, high or 1.0)


def _corner(axes: "Axes", tasks: int) -> NDArray[np.float64]:
    return np.array([getattr(axes, f"get_{name}lim")()[1] for name in "xyz"[:tasks]])


def _draw_rays(axes: "Axes", front: Front) -> None:
    """Draw a dashed line l ∝ 1/r for each preference; in the plane, label it with r if it fits."""
    corner = _corner(axes, front[0].num_tasks)
    preferences = dict.fromkeys(tuple(s.preference) for s in front if s.preference is not None)
    labelled: list[NDArray[np.float64]] = []
    for index, r in enumerate(preferences):
        ray = rays(np.array([r]))[0]
        end = ray * np.min(corner[ray > 0.0] / ray[ray > 0.0])
        label = "ray l ∝ 1/r" if index == 0 else None
        line = [[0.0, value] for value in end]
        axes.plot(*line, "--", color="0.6", lw=1.0, zorder=1, label=label)
        place = end / corner
        if len(r) == 2 and all((abs(place - other) > _LABEL_ROOM).any() for other in labelled):
            labelled.append(place)
            _label_ray(axes, end, share_text(r), right=place[0] > place[1] - 1e-9)


def _label_ray(axes: "Axes", end: NDArray[np.float64], text: str, *, right: bool) -> None:
    """Write r where its ray leaves the axes, on the right or at the top."""
    axes.annotate(
        text,
        (end[0], end[1]),
        xytext=(4, 0) if right else (0, 3),
        textcoords="offset points",
        ha="left" if right else "center",
        va="center" if right else "bottom",
        fontsize=8,
        color="0.4",
        annotation_clip=False,
    )


def _draw_dominated(axes: "Axes", front: Front, split: DataSplit) -> None:
    """Fill the area that the solutions of all methods dominate, up to the edge of the axes."""
    points = np.unique(front.non_dominated(split).losses(split), axis=0)  # by the first loss
    right, top = _corner(axes, 2)
    steps = np.repeat(points, 2, axis=0)
    x = [*steps[:, 0], right, right]
    y = [top, *steps[:, 1], top]
    axes.fill(x, y, color="0.94", lw=0, zorder=0, label=f"dominated, {SPLIT_WORDS[split]}")


def _draw_method(axes: "Axes", front: Front, method: str, style: dict[str, Any]) -> None:
    """Draw training losses filled and test losses hollow, each pair joined."""
    name = plain(method)
    train = front.losses("train")
    axes.plot(*train.T, ls="", ms=7, zorder=3, label=f"{name}, training", **style)
    tested = Front(s for s in front if s.test_losses is not None)
    if len(tested) == 0:
        return
    test = tested.losses("test")
    axes.plot(*test.T, ls="", ms=7, mfc="white", zorder=3, label=f"{name}, test", **style)
    for pair in zip(tested.losses("train"), test, strict=True):
        axes.plot(*np.array(pair).T, "-", color=style["color"], lw=0.8, alpha=0.5, zorder=2)
