"""A self-contained HTML page of a front: a click on a solution shows its numbers."""

import html
import json
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from string import Template
from typing import Any

import numpy as np

from pyfront._utils.extras import import_extra
from pyfront._utils.files import atomic_write
from pyfront.front.front import Front, Solution
from pyfront.front.measures import Floats, rays
from pyfront.front.solution import SPLIT_WORDS, DataSplit
from pyfront.plots.style import COLOURS, drawn_split, share_text

__all__ = ["save_page"]

_MARKS = ("circle", "square", "diamond", "cross", "x")  # plotly has these in space too


def save_page(
    front: Front, path: str | PathLike[str], *, split: DataSplit | None = None, title: str = "front"
) -> None:
    """Write an interactive page of a front, all or nothing; it needs no network.

    Two tasks are plotted in the plane and three in space, with the rays l ∝ 1/r of the preferences;
    more tasks in parallel coordinates, each from its least to its largest loss. A click on a
    solution, or its choice in a list, shows its method, preference, losses, metrics and the path of
    its checkpoint. plotly.js (about 5 MB) is part of the page. Text from the front is shown as
    text: nothing in it is run or interpreted.

    Args:
        front: at least one solution, two tasks or more.
        path: where the page is written.
        split: whose losses are drawn, "train" or "test"; ``front.common_split`` by default.
        title: the heading.

    Raises:
        ValueError: an empty front, one task, or a solution without losses on the split.
        ImportError: plotly is not installed.
        OSError: the place cannot be written.

    Example:
        >>> save_page(Front(), "front.html")
        Traceback (most recent call last):
        ValueError: front: holds no solution, so there is nothing to draw
    """
    split = drawn_split(front, split)
    drawn = SPLIT_WORDS[split]
    page = {
        "traces": _traces(front, split),
        "layout": _layout(front.tasks, drawn),
        "names": [f"{index}: {_name(s)}" for index, s in enumerate(front)],
        "details": [list(_details(s)) for s in front],
    }
    solutions = "1 solution" if len(front) == 1 else f"{len(front)} solutions"
    template = Template(Path(__file__).with_name("page.html").read_text(encoding="utf-8"))
    text = template.substitute(
        title=html.escape(title),
        subtitle=f"{solutions}, {drawn} losses",
        plotly=import_extra("plotly.offline", "html").get_plotlyjs(),
        # no end tag and no comment can begin inside the script element
        page=json.dumps(page, allow_nan=False).replace("<", r"\u003c"),
    )
    with atomic_write(path) as part:
        part.write_text(text, encoding="utf-8")


def _plain(text: str) -> str:
    """Escape text for plotly, which interprets tags."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _name(solution: Solution) -> str:
    r = solution.preference
    return solution.method if r is None else f"{solution.method} {share_text(r)}"


def _details(s: Solution) -> list[tuple[str, str]]:
    """List the names and values of the panel."""
    per_task = (s.preference, s.train_losses, s.test_losses)
    shown = ["none" if v is None else ", ".join(_with_names(s.tasks, v)) for v in per_task]
    names = ("preference", "training losses", "test losses")
    return [
        ("method", s.method),
        *zip(names, shown, strict=True),
        *((name, f"{value:.6g}") for name, value in s.metrics.items()),
        ("checkpoint", "none" if s.checkpoint is None else s.checkpoint),
    ]


def _with_names(tasks: Sequence[str] | None, values: Sequence[float]) -> list[str]:
    """Write one number per task, with the name of the task if it has one."""
    numbers = [f"{value:.6g}" for value in values]
    if tasks is None:
        return numbers
    return [f"{task} {number}" for task, number in zip(tasks, numbers, strict=True)]


def _traces(front: Front, split: DataSplit) -> list[dict[str, Any]]:
    """Make the traces of plotly; `meta` is the index of the solution at each point."""
    indices: dict[str, list[int]] = {method: [] for method in front.by_method()}
    for index, s in enumerate(front):
        indices[s.method].append(index)
    points = front.losses(split)
    tasks = points.shape[1]
    traces = _rays(front, points) if tasks <= 3 else []
    draw = _scatter if tasks <= 3 else _lines
    for number, (method, places) in enumerate(indices.items()):
        marker = {
            "size": 5 if tasks == 3 else 9,
            "symbol": _MARKS[number % len(_MARKS)],
            "color": COLOURS[number % len(COLOURS)],
        }
        group = {"name": _plain(method), "legendgroup": str(number)}
        for trace in draw(front, points, places):
            traces.append(trace | group | {"hoverinfo": "text", "marker": marker})
    return traces if tasks == 3 else [*traces, _mark(tasks)]  # restyling in space is unsteady


def _mark(tasks: int) -> dict[str, Any]:
    """Make the mark around the solution that is shown; the page moves it."""
    return {
        "type": "scatter",
        "mode": "markers" if tasks == 2 else "lines+markers",
        "marker": {"symbol": "circle-open", "size": 15, "color": "#000000", "line": {"width": 2}},
        "line": {"color": "#000000", "width": 2.5},
        "hoverinfo": "skip",
        "showlegend": False,
        "x": [],
        "y": [],
    }


def _scatter(front: Front, points: Floats, places: list[int]) -> list[dict[str, Any]]:
    """Draw the solutions of one method as points in the plane or in space."""
    columns = points[places].T.tolist()
    return [
        {
            "type": "scatter" if len(columns) == 2 else "scatter3d",
            "mode": "markers",
            "meta": places,
            "text": [
                f"{_plain(_name(front[index]))}<br>({', '.join(f'{x:.4g}' for x in points[index])})"
                for index in places
            ],
            **dict(zip("xyz", columns, strict=False)),
        }
    ]


def _lines(front: Front, points: Floats, places: list[int]) -> list[dict[str, Any]]:
    """Draw the solutions of one method as lines over the tasks, each scaled to its own losses."""
    low = points.min(axis=0)
    span = points.max(axis=0) - low
    heights = (points - low) / np.where(span > 0.0, span, 1.0)
    tasks = points.shape[1]
    return [
        {
            "type": "scatter",
            "mode": "lines+markers",
            "meta": [index] * tasks,
            "x": list(range(1, tasks + 1)),
            "y": heights[index].tolist(),
            "text": [
                f"{_plain(front[index].method)}<br>{_plain(task)}: {loss:.4g}"
                for task, loss in zip(front.tasks, points[index], strict=True)
            ],
            "line": {"width": 1.2},
            "showlegend": index == places[0],
        }
        for index in places
    ]


def _rays(front: Front, points: Floats) -> list[dict[str, Any]]:
    """Draw a dashed line for each different preference; a click on it shows nothing."""
    corner = 1.06 * points.max(axis=0, initial=0.0)
    corner[corner == 0.0] = 1.0
    traces: list[dict[str, Any]] = []
    for r in dict.fromkeys(tuple(s.preference) for s in front if s.preference is not None):
        ray = rays(np.array([r]))[0]
        end = ray * np.min(corner[ray > 0.0] / ray[ray > 0.0])
        traces.append(
            {
                "type": "scatter" if len(r) == 2 else "scatter3d",
                "mode": "lines",
                "name": "ray l ∝ 1/r",
                "legendgroup": "rays",
                "showlegend": not traces,
                "hoverinfo": "skip",
                "line": {"color": "#999999", "width": 1 if len(r) == 2 else 3, "dash": "dash"},
                **{name: [0.0, value] for name, value in zip("xyz", end.tolist(), strict=False)},
            }
        )
    return traces


def _layout(names: Sequence[str], drawn: str) -> dict[str, Any]:
    """Make the layout of plotly with the names of the tasks at the axes."""
    tasks = len(names)
    layout: dict[str, Any] = {
        "template": "none",
        "hovermode": "closest",
        "margin": {"l": 60, "r": 10, "t": 30, "b": 50},
        "legend": {"orientation": "h", "y": -0.12, "yanchor": "top"},
    }
    axes = {
        f"{name}axis": {
            "title": {"text": _plain(f"{drawn} loss of {task}")},
            "rangemode": "tozero",
            **({"showspikes": False} if tasks == 3 else {}),
        }
        for name, task in zip("xyz"[: min(tasks, 3)], names, strict=False)
    }
    if tasks == 2:
        return layout | axes
    if tasks == 3:
        eye = {"x": 1.6, "y": 1.6, "z": 1.1}
        return layout | {"scene": axes | {"camera": {"eye": eye}}}
    return layout | {
        "xaxis": {
            "title": {"text": "task"},
            "tickvals": list(range(1, tasks + 1)),
            "ticktext": [_plain(name.removeprefix("task ")) for name in names],
        },
        "yaxis": {"title": {"text": f"{drawn} loss, each task from its least to its largest"}},
    }
