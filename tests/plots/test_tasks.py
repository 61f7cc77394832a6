"""Pictures over the tasks and over time: what is drawn, and what cannot be."""

import numpy as np
import pytest
import torch
from fronts import solution

from pyfront.front.front import Front
from pyfront.front.solution import Solution
from pyfront.plots import (
    plot_front,
    plot_parallel,
    plot_relative_losses,
    plot_weights,
    save_figure,
)
from pyfront.report import Report

pytest.importorskip("matplotlib")


def example(tasks=5):
    losses = np.random.default_rng(0).uniform(1.0, 2.0, size=(6, tasks))
    losses[5] = losses[0] + 0.5  # dominated
    preferences = [None, *np.random.default_rng(1).uniform(0.1, 1.0, size=(5, tasks))]
    return Front(
        solution(*row, test=2 * row, method=method, preference=r)
        for row, r, method in zip(losses, preferences, "abbaab", strict=True)
    )


def lines(axes, count):
    """The lines over `count` tasks or steps."""
    return [line for line in axes.lines if len(line.get_xdata()) == count]


def legend(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_parallel_coordinates_go_from_the_least_to_the_largest_loss():
    front = example()
    figure = plot_front(front)  # more than three tasks
    drawn = lines(figure.axes[0], 5)
    points = front.losses("test")
    scaled = (points - points.min(0)) / (points.max(0) - points.min(0))
    found = sorted(tuple(line.get_ydata()) for line in drawn)
    np.testing.assert_allclose(found, sorted(map(tuple, scaled)))
    dotted = [line.get_linestyle() for line in drawn].count(":")
    assert dotted == len(front) - len(front.non_dominated()) > 0
    assert legend(figure) == ["a", "b", "dotted: dominated by another"]
    texts = {text.get_text() for text in figure.axes[0].texts}
    assert {f"{value:.3g}" for value in (*points.min(0), *points.max(0))} == texts


def test_relative_losses_and_their_means():
    front = example()
    figure = plot_relative_losses(front, split="train")
    thick = [line for line in lines(figure.axes[0], 5) if line.get_marker() != "None"]
    thin = [line for line in lines(figure.axes[0], 5) if line.get_marker() == "None"]
    assert len(thin) == 5  # the one without a preference is left out
    for line, part in zip(thick, front.by_method().values(), strict=True):
        mean = np.nanmean(part.relative_losses("train"), axis=0)
        np.testing.assert_allclose(line.get_ydata(), mean)
    assert legend(figure) == ["a, mean of 2", "b, mean of 3"]


def test_a_method_has_one_colour_in_all_pictures():
    front = example(tasks=2)
    pictures = (plot_front(front), plot_parallel(front), plot_relative_losses(front))
    for method, colour in (("a", "#0072B2"), ("b", "#D55E00")):
        for figure in pictures:
            labels = [(line.get_label(), line.get_color()) for line in figure.axes[0].lines]
            assert colour in {c for label, c in labels if label.startswith(method)}


@pytest.mark.parametrize("tasks", [3, 30])
def test_pictures_of_any_number_of_tasks_are_saved(tmp_path, tasks):
    front = example(tasks)
    for name, figure in (("f", plot_front(front)), ("r", plot_relative_losses(front))):
        save_figure(figure, tmp_path / f"{name}.png")
    one = Front([solution(*[1.0] * tasks, preference=[1.0] * tasks)])
    save_figure(plot_front(one), tmp_path / "one.png")
    assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.parametrize("plot", [plot_parallel, plot_relative_losses, plot_front])
def test_fronts_that_cannot_be_drawn(plot):
    with pytest.raises(ValueError, match="front: holds no solution"):
        plot(Front())
    with pytest.raises(ValueError, match="front: 1 task, expected at least 2"):
        plot(Front([solution(1.0)]))
    with pytest.raises(ValueError, match="solution 0 has no test losses"):
        plot(Front([solution(1.0, 2.0, preference=[1, 1])]), split="test")


def test_relative_losses_need_a_preference():
    with pytest.raises(ValueError, match="no solution has a preference"):
        plot_relative_losses(Front([solution(1.0, 2.0)]))


def report(*weights, phase=None):
    return Report(weights=torch.tensor(weights), phase=phase)


def test_weights_over_the_steps():
    reports = [report(0.25, 0.75), report(float("nan"), float("nan")), report(-0.5, 1.0)]
    figure = plot_weights(reports, title="weights")
    drawn = lines(figure.axes[0], 3)
    np.testing.assert_array_equal(drawn[0].get_ydata(), [0.25, np.nan, -0.5])
    np.testing.assert_array_equal(drawn[1].get_xdata(), [1, 2, 3])
    assert legend(figure) == ["task 1", "task 2"]


def test_each_phase_has_a_background_over_its_steps():
    phases = ["feasibility", "feasibility", "descent", None, "feasibility"]
    figure = plot_weights([report(0.5, 0.5, phase=phase) for phase in phases])
    assert legend(figure) == ["task 1", "task 2", "feasibility", "descent"]
    shaded = {
        area.get_label(): [
            step
            for step in range(1, 6)
            if all(
                any(path.contains_point((x, 0.5)) for path in area.get_paths())
                for x in (step - 0.45, step, step + 0.45)
            )
        ]
        for area in figure.axes[0].collections
    }
    assert shaded == {"feasibility": [1, 2, 5], "descent": [3]}
    assert legend(plot_weights([report(1.0, phase="descent")])) == ["task 1"]


def test_many_tasks_and_steps_are_told_apart():
    figure = plot_weights([report(*np.full(12, 1 / 12))] * 2000)
    looks = {(line.get_color(), line.get_linestyle()) for line in lines(figure.axes[0], 2000)}
    assert len(looks) == 12


def test_reports_that_cannot_be_drawn():
    with pytest.raises(ValueError, match="reports: holds no report"):
        plot_weights([])
    with pytest.raises(ValueError, match=r"reports\[1\] has 3 weights, those before it 2"):
        plot_weights([report(0.5, 0.5), report(0.2, 0.3, 0.5)])


def test_names_of_tasks_are_at_the_axes_and_in_the_legend():
    names = ["segmentation", "depth $", "normals", "edges"]
    front = Front([solution(*range(1, 5), preference=[1.0] * 4, tasks=names)])
    shown = ["segmentation", r"depth \$", "normals", "edges"]
    for figure in (plot_front(front), plot_parallel(front), plot_relative_losses(front)):
        assert [text.get_text() for text in figure.axes[0].get_xticklabels()] == shown
        figure.draw_without_rendering()
    assert legend(plot_weights([report(0.5, 0.5)], tasks=names[:2])) == shown[:2]
    with pytest.raises(ValueError, match="tasks: 4 names for 2 tasks"):
        plot_weights([report(0.5, 0.5)], tasks=names)


@pytest.mark.parametrize("tasks", [8, 12, 30])
def test_long_names_of_tasks_do_not_run_into_each_other(tasks):
    names = [f"a rather long name {k}" for k in range(tasks)]
    figure = plot_parallel(Front([solution(*range(1, tasks + 1), tasks=names)]))
    figure.draw_without_rendering()
    labels = figure.axes[0].get_xticklabels()
    assert [text.get_text() for text in labels] == names
    if tasks > 10:  # upright: the boxes are exact
        boxes = [text.get_window_extent() for text in labels]
        assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])


def test_a_name_that_begins_with_an_underscore_is_in_the_legend():
    front = Front(
        Solution(method=name, preference=[r, 1 - r, 1, 1], train_losses=[r, 1 - r, r, 1])
        for name, r in (("_hidden", 0.2), ("b", 0.8))
    )
    for figure in (plot_front(front), plot_relative_losses(front)):
        names = [text.split(",")[0].lstrip("\u200b") for text in legend(figure)]
        assert {"_hidden", "b"} <= set(names)
