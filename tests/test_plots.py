"""The picture holds every point, on both splits, and every ray."""

import sys

import numpy as np
import pytest

from pyfront.front import Front, Solution
from pyfront.plots import plot_front, save_figure

pytest.importorskip("matplotlib")

PREFERENCES = [(0.25, 0.75), (0.5, 0.5), (0.75, 0.25)]


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
def test_it_is_saved_whole_without_pyplot(tmp_path, test):
    figure = plot_front(example(test), title="digits")
    save_figure(figure, tmp_path / "front.png")
    assert (tmp_path / "front.png").read_bytes().startswith(b"\x89PNG")
    assert [p.name for p in tmp_path.iterdir()] == ["front.png"]
    assert "matplotlib.pyplot" not in sys.modules


def test_degenerate_fronts():
    save = Solution(method="a", train_losses=[0.0, 0.0])
    assert plot_front(Front([save])).axes[0].get_xlim() == (0.0, 1.0)
    plot_front(Front([Solution(method="a", train_losses=[-1.0, 2.0])]))
    with pytest.raises(ValueError, match="holds no solution"):
        plot_front(Front())
    with pytest.raises(ValueError, match="3 tasks, expected 2"):
        plot_front(Front([Solution(method="a", train_losses=[1.0, 1.0, 1.0])]))


class Absent:
    """Makes matplotlib look as if it were not installed."""

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "matplotlib":
            raise ModuleNotFoundError(f"No module named {name!r}", name="matplotlib")


def test_a_missing_matplotlib_names_the_extra(monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [Absent(), *sys.meta_path])
    with pytest.raises(ImportError, match=r'pip install "pyfront\[plots\]"'):
        plot_front(example())
