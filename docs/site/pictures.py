"""Draws the pictures of docs/preferences.md: ``python docs/site/pictures.py``; needs matplotlib."""

from pathlib import Path

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from pyfront import preferences

BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#999999"


def main(folder: Path) -> None:
    """Writes preferences.png."""
    figure = Figure(figsize=(10.5, 7.0), layout="constrained")
    draw_circle(panel(figure, 1, "circle(10)"))
    draw_on_sphere(panel(figure, 2, "das_dennis(3, 8)", three=True), preferences.das_dennis(3, 8))
    sphere = preferences.sample_sphere(3, 400, seeded())
    draw_on_sphere(panel(figure, 3, "sample_sphere(3, 400)", three=True), sphere)
    draw_on_simplex(panel(figure, 4, "sample(3, 400)"), preferences.sample(3, 400, seeded()))
    biased = preferences.sample_biased(3, 400, 0, 4.0, seeded())
    draw_on_simplex(panel(figure, 5, "sample_biased(3, 400, task=0, bias=4)"), biased)
    draw_conversion(panel(figure, 6, "to_reference_vectors(r)"))
    figure.savefig(folder / "preferences.png", dpi=110)


def seeded() -> torch.Generator:
    """The same randomness at every run."""
    return torch.Generator().manual_seed(0)


def panel(figure: Figure, place: int, title: str, three: bool = False) -> Axes:
    """One of six axes with a title."""
    axes = figure.add_subplot(2, 3, place, projection="3d" if three else None)
    axes.set_title(title, family="monospace", fontsize=10)
    axes.set_aspect("equal")
    return axes


def draw_circle(axes: Axes) -> None:
    """Arrows from the origin to ten directions."""
    for x, y in preferences.circle(10).tolist():
        axes.plot([0, x], [0, y], color=GREY, linewidth=0.8)
        axes.plot(x, y, "o", color=BLUE)
    axes.set(xlabel="loss of task 0", ylabel="loss of task 1")


def draw_on_sphere(axes: Axes, directions: Tensor) -> None:
    """Directions in the loss space of three tasks."""
    axes.plot(*directions.T.numpy(), "o", color=BLUE, markersize=3)
    axes.view_init(elev=28, azim=40)
    axes.set(xlabel="loss of task 0", ylabel="loss of task 1", zlabel="loss of task 2")
    ticks = [0.0, 0.5, 1.0]
    axes.set(xticks=ticks, yticks=ticks, zticks=ticks)


def draw_on_simplex(axes: Axes, r: Tensor) -> None:
    """Preferences of three tasks in the triangle whose corners are the tasks."""
    corners = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.5, 0.75**0.5]], dtype=torch.float64)
    axes.plot(*corners[[0, 1, 2, 0]].T.numpy(), color=GREY, linewidth=0.8)
    axes.plot(*(r @ corners).T.numpy(), "o", color=ORANGE, markersize=3)
    for task, (x, y) in enumerate(corners.tolist()):
        above = task == 2
        axes.annotate(
            f"task {task}",
            (x, y),
            (0, 5 if above else -14),
            textcoords="offset points",
            ha="center",
        )
    axes.margins(0.12)
    axes.set_axis_off()


def draw_conversion(axes: Axes) -> None:
    """Preferences and the directions in loss space that they lead to."""
    share = torch.linspace(0.1, 0.9, 5, dtype=torch.float64)
    r = torch.stack([share, 1 - share], dim=1)
    u = preferences.to_reference_vectors(r)
    for (rx, ry), (ux, uy) in zip(r.tolist(), u.tolist(), strict=True):
        axes.annotate(
            "", (ux, uy), (rx, ry), arrowprops={"arrowstyle": "->", "color": GREY, "linewidth": 0.8}
        )
    axes.plot(*r.T.numpy(), "o", color=ORANGE, label="preference r")
    axes.plot(*u.T.numpy(), "s", color=BLUE, label="direction u of the losses")
    axes.set(xlabel="task 0", ylabel="task 1", xlim=(0, 1.3), ylim=(0, 1.3))
    axes.legend(loc="upper right", fontsize=8)


if __name__ == "__main__":
    main(Path(__file__).parent)
