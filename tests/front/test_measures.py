"""Measures on points: the approximate hypervolume, its arithmetic, rays."""

import copy
import math
import pickle

import numpy as np
import pytest

from pyfront.front.measures import Hypervolume, hypervolume, knee, non_dominated, rays


def sphere(count, tasks):
    """Points none of which dominates another, in [0, 1]."""
    points = np.abs(np.random.default_rng(0).normal(size=(count, tasks)))
    return 1.0 - points / np.linalg.norm(points, axis=1, keepdims=True)


@pytest.mark.parametrize(
    ("count", "tasks", "exact"),
    [
        (1000, 2, True),
        (1000, 5, True),
        (100, 7, True),
        (30, 8, True),
        (12, 25, True),
        (400, 7, False),
        (200, 8, False),
        (40, 10, False),
        (20, 20, False),
    ],
)
def test_it_is_exact_while_that_is_affordable(count, tasks, exact):
    pytest.importorskip("moocore")
    volume = hypervolume(sphere(count, tasks), np.full(tasks, 1.1))
    assert volume.exact is exact
    assert repr(volume).startswith("≈") is not exact
    assert volume.reference == (1.1,) * tasks
    assert 0.0 < volume < 1.1**tasks


@pytest.mark.parametrize(("count", "tasks", "error"), [(60, 8, 2e-3), (15, 10, 2e-2)])
def test_the_approximation_is_close_and_repeats(monkeypatch, count, tasks, error):
    pytest.importorskip("moocore")
    points, reference = sphere(count, tasks), np.full(tasks, 1.1)
    exact = hypervolume(points, reference)
    monkeypatch.setattr("pyfront.front.measures._COST_LIMIT", 1.0)
    volumes = [hypervolume(points, reference) for _ in range(2)]
    assert volumes[0] == volumes[1] == pytest.approx(exact, rel=error)
    assert (exact.exact, volumes[0].exact) == (True, False)


def test_dominated_points_cost_nothing():
    pytest.importorskip("moocore")
    points = np.concatenate([sphere(10, 10), 1.0 + sphere(300, 10)])
    volume = hypervolume(points, np.full(10, 2.1))
    assert volume.exact
    assert volume == hypervolume(points[:10], np.full(10, 2.1))


def test_a_hypervolume_is_a_number_that_knows_its_reference():
    a, b = Hypervolume(2.0, (1.0, 3.0)), Hypervolume(1.0, (1.0, 3.0), exact=False)
    assert (a - b, a / b, a > b, a >= b, b < a, b <= a, a == b, a != b) == (
        *(1.0, 2.0, True, True, True, True, False, True),
    )
    assert a == 2.0
    assert {a: 1}[2.0] == 1
    assert (f"{a}", f"{a:.2f}", f"{b}", f"{b:8.2f}") == ("2.0", "2.00", "≈1.0", "   ≈1.00")
    for again in (pickle.loads(pickle.dumps(b)), copy.deepcopy(b)):
        assert (again, again.reference, again.exact) == (b, b.reference, False)


@pytest.mark.parametrize(
    "operation",
    ["__lt__", "__le__", "__gt__", "__ge__", "__eq__", "__ne__", "__sub__", "__truediv__"],
)
def test_different_reference_points_are_an_error_that_names_both(operation):
    a, b = Hypervolume(2.0, (1.0, 3.0)), Hypervolume(2.0, (1.0, 4.0))
    with pytest.raises(ValueError, match=r"\(1.0, 3.0\) and \(1.0, 4.0\)"):
        getattr(a, operation)(b)


def test_rays_are_the_limit_where_a_preference_is_zero():
    r = np.array([[2.0, 1.0, 1.0], [1.0, 0.0, 2.0], [0.0, 1.0, 0.0], [math.nan] * 3])
    close = rays(np.where(r == 0.0, 1e-12, r))
    np.testing.assert_allclose(rays(r), close, atol=1e-9)
    np.testing.assert_allclose(rays(r)[0], np.array([1.0, 2.0, 2.0]) / 3.0)


def test_degenerate_points():
    assert non_dominated(np.empty((0, 0))).shape == (0,)
    assert non_dominated(np.ones((3, 2))).all()
    assert knee(np.ones((3, 2))) == 0
    assert knee(np.array([[1.0, 5.0]])) == 0
    assert knee(np.array([[3.0], [3.0]])) == 0
