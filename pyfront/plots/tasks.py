"""Plots by task: parallel coordinates, relative losses, weights over time."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pyfront._utils.task_names import check_tasks
from pyfront.front.front import Front
from pyfront.front.solution import SPLIT_WORDS, DataSplit
from pyfront.plots.style import COLOURS, drawn_split, legend_below, method_styles, new_figure, plain
from pyfront.report import Report

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["plot_parallel", "plot_relative_losses", "plot_weights"]

_PHASE_GREY = {"feasibility": "0.85", "balance": "0.9", "descent": "0.97", "convergence": "0.93"}


def plot_parallel(front: Front, *, split: DataSplit | None = None, title: str = "") -> "Figure":
    """Plot a front of many tasks: one vertical axis per task, one line per solution.

    Each axis goes from the least to the largest loss of its task, which are written at its ends.
    Dominated solutions are dotted.

    Args:
        front: at least one solution, two tasks or more.
        split: "train" or "test"; ``front.common_split`` by default.
        title: a line above the plot.

    Raises:
        ValueError: an empty front, one task, or a solution without losses on the split.
        ImportError: matplotlib is not installed.

    Example:
        >>> from pyfront import Solution
        >>> s = Solution(method="EPO", train_losses=[1.0, 2.0, 3.0, 4.0])
        >>> [text.get_text() for text in plot_parallel(Front([s])).axes[0].get_xticklabels()]
        ['task 1', 'task 2', 'task 3', 'task 4']
    """
    split = drawn_split(front, split)
    points = front.losses(split)
    low, high = points.min(axis=0), points.max(axis=0)
    span = np.where(high > low, high - low, 1.0)
    kept = set(map(tuple, front.non_dominated(split).losses(split)))
    figure = new_figure()
    axes = figure.add_subplot()
    place = np.arange(1, points.shape[1] + 1)
    for method, style in method_styles(front).items():
        rows = front.by_method()[method].losses(split)
        for index, row in enumerate(rows):
            dash = "-" if tuple(row) in kept else ":"
            label = plain(method) if index == 0 else None
            y = (row - low) / span
            axes.plot(place, y, dash, ms=5, lw=1.2, alpha=0.8, label=label, **style)
    if len(kept) < len({tuple(row) for row in points}):
        axes.plot([], [], ":", color="0.4", label="dotted: dominated by another")
    _draw_axes_of_tasks(axes, low, high, front.tasks)
    axes.set_title(plain(title), pad=24)
    axes.set_ylabel(f"{SPLIT_WORDS[split]} loss, each task from its least to its largest")
    legend_below(axes)
    return figure


def plot_relative_losses(
    front: Front, *, split: DataSplit | None = None, title: str = ""
) -> "Figure":
    """Plot the relative losses r∘l by task: a flat line has the proportion of the preference.

    r is scaled to sum 1. Thin lines are solutions, thick ones with marks the means of the methods;
    solutions without a preference are left out.

    Args:
        front: two tasks or more, at least one solution with a preference.
        split: "train" or "test"; ``front.common_split`` by default.
        title: a line above the plot.

    Raises:
        ValueError: an empty front, one task, no preference, or a solution without losses on the
            split.
        ImportError: matplotlib is not installed.

    Example:
        >>> from pyfront import Solution
        >>> s = Solution(method="EPO", preference=[0.7, 0.3], train_losses=[0.3, 0.7])
        >>> plot_relative_losses(Front([s])).axes[0].get_ylabel()
        'relative training loss r∘l'

    Source: Mahapatra and Rajan, EPO search, 2020, figure 8, which has bars for the means.
    """
    split = drawn_split(front, split)
    preferred = Front(s for s in front if s.preference is not None)
    if len(preferred) == 0:
        raise ValueError("front: no solution has a preference, so none has a relative loss")
    figure = new_figure()
    axes = figure.add_subplot()
    place = np.arange(1, front[0].num_tasks + 1)
    parts = preferred.by_method()
    for method, style in method_styles(front).items():
        if method not in parts:
            continue
        profiles = parts[method].relative_losses(split)
        colour = style["color"]
        if len(profiles) > 1:
            axes.plot(place, profiles.T, "-", color=colour, lw=0.8, alpha=0.35)
        name = f"{plain(method)}, mean of {len(profiles)}" if len(profiles) > 1 else plain(method)
        axes.plot(place, profiles.mean(axis=0), "-", lw=2, ms=7, label=name, **style)
    _name_tasks(axes, front.tasks)
    axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]))
    axes.set_ylabel(f"relative {SPLIT_WORDS[split]} loss r∘l")
    axes.set_title(plain(title))
    axes.spines[["top", "right"]].set_visible(False)
    legend_below(axes)
    return figure


def plot_weights(
    reports: Sequence[Report], *, tasks: Sequence[str] | None = None, title: str = ""
) -> "Figure":
    """Plot the weights of the tasks over the steps of training.

    Each phase has its background. Steps with the status ``nonfinite`` leave a gap.

    Args:
        reports: one per step, for example ``[opt.step(losses) for …]``; at least one, all with the
            same number of weights.
        tasks: m names for the legend; "task 1", "task 2", … by default.
        title: a line above the plot.

    Raises:
        ValueError: no report, or another number of weights than in the first; names the index.
            Names that are not m different ones.
        ImportError: matplotlib is not installed.

    Example:
        >>> report = Report(weights=torch.tensor([0.25, 0.75]))
        >>> len(plot_weights([report, report]).axes[0].lines)
        2

    Source: Lin et al., Pareto Multi-Task Learning, 2019, section 5 and supplement, for the figures.
    """
    if len(reports) == 0:
        raise ValueError("reports: holds no report, so there is nothing to draw")
    rows = [report.weights.detach().double().numpy(force=True) for report in reports]
    for index, row in enumerate(rows):
        if row.shape != rows[0].shape:
            raise ValueError(
                f"reports[{index}] has {row.size} weights, those before it {rows[0].size}"
            )
    weights = np.stack(rows)
    figure = new_figure()
    axes = figure.add_subplot()
    steps = np.arange(1, len(weights) + 1)
    count = weights.shape[1]
    names = [f"task {j + 1}" for j in range(count)] if tasks is None else check_tasks(tasks, count)
    dashes = ("-", "--", "-.", ":")
    for task, column in enumerate(weights.T):
        dash = dashes[task // len(COLOURS) % len(dashes)]
        mark = "o" if len(steps) == 1 else None
        colour = COLOURS[task % len(COLOURS)]
        axes.plot(steps, column, c=colour, ls=dash, marker=mark, lw=1.3, label=plain(names[task]))
    axes.set_xlim(0.5, len(steps) + 0.5)
    _draw_phases(axes, [report.phase for report in reports])
    axes.grid(axis="y", color="0.85", lw=0.6)
    axes.set_xlabel("step")
    axes.set_ylabel("weight")
    axes.set_title(plain(title))
    axes.spines[["top", "right"]].set_visible(False)
    legend_below(axes)
    return figure


def _name_tasks(axes: "Axes", names: Sequence[str]) -> None:
    """Label the ticks 1 to m; names too long to stand side by side are turned or shortened."""
    tasks = len(names)
    if tasks > 10 and all(name == f"task {task}" for task, name in enumerate(names, start=1)):
        names = [str(task) for task in range(1, tasks + 1)]
        axes.set_xlabel("task")
    crowded = sum(len(name) + 2 for name in names) > 100
    axes.set_xticks(
        range(1, tasks + 1),
        [plain(name) for name in names],
        fontsize=9 if tasks <= 20 else 6,
        rotation=90 if crowded and tasks > 10 else 20 if crowded else 0,
    )


def _draw_axes_of_tasks(
    axes: "Axes", low: NDArray[np.float64], high: NDArray[np.float64], names: Sequence[str]
) -> None:
    """Draw a vertical line per task with its least and largest loss at the ends."""
    tasks = len(names)
    _name_tasks(axes, names)
    axes.set_xlim(0.7, tasks + 0.3)
    axes.set_ylim(-0.08 if tasks <= 10 else -0.11, 1.03)
    axes.set_yticks([])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    size, turn = (8, 0) if tasks <= 10 else (6, 90)
    for task in range(tasks):
        axes.plot([task + 1, task + 1], [0, 1], "-", color="0.7", lw=0.8, zorder=1)
        for y, value, side in ((-0.02, low, "top"), (1.02, high, "bottom")):
            text = f"{value[task]:.3g}"
            label = axes.text(task + 1, y, text, ha="center", va=side, color="0.35")
            label.set(fontsize=size, rotation=turn)


def _draw_phases(axes: "Axes", phases: Sequence[str | None]) -> None:
    """Shade the steps of each phase if there is more than one."""
    edges = np.arange(len(phases) + 1) + 0.5
    known = {phase: grey for phase, grey in _PHASE_GREY.items() if phase in phases}
    for phase, grey in known.items() if len(known) > 1 else ():
        there = np.array([p == phase for p in phases])
        axes.fill_between(
            np.repeat(edges, 2)[1:-1],  # left and right edge of each step
            *(0.0, 1.0),
            where=np.repeat(there, 2).tolist(),
            transform=axes.get_xaxis_transform(),
            label=phase,
            facecolor=grey,
            edgecolor="0.8",
            lw=0.3,
            zorder=0,
        )
