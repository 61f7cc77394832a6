"""The picture holds every point, on both splits, and every ray."""

import subprocess
import sys

import numpy as np
import pytest
from absent import hide

from pyfront.front.front import Front, Solution
from pyfront.plots import plot_front, save_figure

pytest.importorskip("matplotlib")

PREFERENCES = [(0.25, 0.75), (0.5, 0.5), (0.75, 0.25)]

SOLUTION = Solution(method="a$", train_losses=[1.0, 2.0])


def example(test=True):
    front = Front()
    for scale, method in ((1.0, "EPO"), (1.1, "linear")):
        for r in PREFERENCES:
            train = scale * 0.1 / np.array(r)
            front.add(
                Solution(
                    method=method,
                    preference=r,
                    train_losses=train,
                    test_losses=1.2 * train if test else None,
                )
            )
    front.add(Solution(method="MGDA", train_losses=[0.3, 0.2], test_losses=[0.4, 0.3]))
    return front


def marks(axes):
    return [line for line in axes.lines if line.get_marker() not in ("", "None", None)]


def test_every_method_has_filled_training_and_hollow_test_marks():
    front = example()
    figure = plot_front(front)
    axes = figure.axes[0]
    lines = marks(axes)
    labels = [line.get_label() for line in lines]
    assert labels == [f"{m}, {s}" for m in ("EPO", "linear", "MGDA") for s in ("training", "test")]
    drawn = np.concatenate([np.column_stack(line.get_data()) for line in lines[::2]])
    np.testing.assert_array_equal(drawn, front.losses("train"))
    for filled, hollow in zip(lines[::2], lines[1::2], strict=True):
        assert filled.get_color() == hollow.get_color()
        assert filled.get_marker() == hollow.get_marker()
        assert hollow.get_markerfacecolor() == "white" != filled.get_markerfacecolor()
    assert len({line.get_markersize() for line in lines}) == 1  # all methods are drawn alike
    assert len({line.get_color() for line in lines}) == 3
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert set(labels) < set(legend)


def test_rays_go_through_the_points_where_r_times_l_is_equal():
    axes = plot_front(example()).axes[0]
    rays = [line for line in axes.lines if line.get_linestyle() == "--"]
    assert len(rays) == len(PREFERENCES)
    for ray, r in zip(rays, PREFERENCES, strict=True):
        end = np.column_stack(ray.get_data())[1]
        assert r[0] * end[0] == pytest.approx(r[1] * end[1])


def test_all_points_lie_inside_the_axes():
    front = example()
    axes = plot_front(front).axes[0]
    for split in ("train", "test"):
        assert (front.losses(split) < [axes.get_xlim()[1], axes.get_ylim()[1]]).all()


@pytest.mark.parametrize("test", [True, False])
def test_it_is_saved_whole(tmp_path, test):
    figure = plot_front(example(test), title="digits")
    save_figure(figure, tmp_path / "front.png")
    assert (tmp_path / "front.png").read_bytes().startswith(b"\x89PNG")
    assert [p.name for p in tmp_path.iterdir()] == ["front.png"]


def test_pyplot_is_not_imported(tmp_path):
    code = (
        "import sys; from pyfront.front import Front, Solution; from pyfront.plots import *; "
        "front = Front([Solution(method='EPO', train_losses=[1.0, 2.0])]); "
        f"save_figure(plot_front(front), {str(tmp_path / 'front.png')!r}); "
        "sys.exit('matplotlib.pyplot' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_degenerate_fronts():
    save = Solution(method="a", train_losses=[0.0, 0.0])
    assert plot_front(Front([save])).axes[0].get_xlim() == (0.0, 1.0)
    plot_front(Front([Solution(method="a", train_losses=[-1.0, 2.0])]))
    with pytest.raises(ValueError, match="holds no solution"):
        plot_front(Front())
    ends = Solution(method="a", train_losses=[0.0, 1.0], preference=[1.0, 0.0])
    rays = [x for x in plot_front(Front([ends])).axes[0].lines if x.get_linestyle() == "--"]
    np.testing.assert_array_equal(rays[0].get_data(), [[0.0, 0.0], [0.0, 1.06]])


def test_what_the_solutions_dominate_is_grey():
    front = example()
    figure = plot_front(front)
    (area,) = figure.axes[0].patches
    right, top = figure.axes[0].get_xlim()[1], figure.axes[0].get_ylim()[1]
    grid = np.random.default_rng(0).uniform(0, [right, top], size=(500, 2))
    dominated = (front.losses("test")[:, None] <= grid).all(axis=2).any(axis=0)
    inside = area.get_path().contains_points(grid)
    np.testing.assert_array_equal(inside, dominated)
    assert 0 < dominated.sum() < 500
    assert area.get_label() == "dominated, test"
    assert plot_front(front, split="train").axes[0].patches[0].get_label() == "dominated, training"


def test_three_tasks_are_drawn_in_space():
    front = Front(
        Solution(method=name, preference=r, train_losses=0.2 / np.array(r), test_losses=[1, 1, 1])
        for name, r in (("a", [0.2, 0.3, 0.5]), ("b", [0.6, 0.2, 0.2]))
    )
    axes = plot_front(front).axes[0]
    assert axes.get_zlabel() == "loss of task 3"
    rays = [line.get_data_3d() for line in axes.lines if line.get_linestyle() == "--"]
    for (x, y, z), solution in zip(rays, front, strict=True):
        products = np.array([x[1], y[1], z[1]]) * solution.preference
        np.testing.assert_allclose(products, products[0])
    filled = [np.array(line.get_data_3d()).T for line in marks(axes)[::2]]
    np.testing.assert_allclose(np.concatenate(filled), front.losses("train"))


def test_labels_of_close_rays_do_not_overlap():
    preferences = [[0.5 + 0.001 * k, 0.5 - 0.001 * k] for k in range(20)]
    front = Front(Solution(method="a", preference=r, train_losses=[1, 1]) for r in preferences)
    figure = plot_front(front)
    assert len([line for line in figure.axes[0].lines if line.get_linestyle() == "--"]) == 20
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in figure.axes[0].texts]
    assert boxes
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])


def test_names_are_shown_as_they_are():
    front = Front([Solution(method="$x_1", train_losses=[1, 1]), SOLUTION])
    figure = plot_front(front, title="$y")
    figure.draw_without_rendering()
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert texts[:2] == [r"\$x_1, training", r"a\$, training"]


@pytest.mark.parametrize(
    ("name", "begin"), [("a.png", b"\x89PNG"), ("a.SVG", b"<?xml"), ("a.pdf", b"%PDF")]
)
def test_the_ending_chooses_the_format(tmp_path, name, begin):
    save_figure(plot_front(Front([SOLUTION])), tmp_path / name)
    assert (tmp_path / name).read_bytes().startswith(begin)


@pytest.mark.parametrize("name", ["a.gif", "a", "png"])
def test_another_ending_is_refused_before_anything_is_written(tmp_path, name):
    with pytest.raises(ValueError, match=r"expected the ending \.png, \.svg, \.pdf"):
        save_figure(plot_front(Front([SOLUTION])), tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_a_missing_matplotlib_names_the_extra(monkeypatch):
    hide(monkeypatch, "matplotlib")
    with pytest.raises(ImportError, match=r'pip install "pyfront\[plots\]"'):
        plot_front(example())


@pytest.mark.parametrize("count", [2, 3])
def test_names_of_tasks_are_at_the_axes(count):
    names = ["segmentation", "depth", "$x"][:count]
    axes = plot_front(Front([Solution(method="a", train_losses=[1.0] * count, tasks=names)])).axes[
        0
    ]
    found = [getattr(axes, f"get_{name}label")() for name in "xyz"[:count]]
    assert found == ["loss of segmentation", "loss of depth", r"loss of \$x"][:count]
