"""What is measured on a front, against slow and obvious answers."""

import math

import numpy as np
import pytest
from fronts import front_of, solution
from hypothesis import assume, given
from hypothesis import strategies as st

import pyfront.front.measures
from pyfront.front.front import Front

coordinate = st.integers(0, 6).map(lambda k: k / 4)
triples = st.lists(st.tuples(coordinate, coordinate, coordinate), min_size=1, max_size=8)
pairs = st.lists(st.tuples(coordinate, coordinate), min_size=1, max_size=10)


@given(st.lists(st.tuples(coordinate, coordinate), min_size=1, max_size=12))
def test_hypervolume_is_the_area_counted_cell_by_cell(points):
    pytest.importorskip("moocore")
    cells = sum(
        any(p[0] <= (i + 0.5) / 4 and p[1] <= (j + 0.5) / 4 for p in points)
        for i in range(8)
        for j in range(8)
    )
    assert front_of(points).hypervolume([2.0, 2.0]) == pytest.approx(cells / 16, abs=1e-12)


def test_hypervolume_of_three_tasks():
    pytest.importorskip("moocore")
    front = front_of([(1.0, 1.0, 1.0), (0.5, 1.5, 1.0)])
    assert front.hypervolume([2.0, 2.0, 2.0], "train") == pytest.approx(1.0 + 0.25)


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ([1.0], r"shape \(1,\), expected \(2,\)"),
        (2.0, r"shape \(\), expected \(2,\)"),
        ([math.nan, 1.0], r"reference\[0\] = nan"),
        ([1.0, 0.5], r"reference\[1\] = 0.5 is below loss 1 of solution 1, 0.75"),
    ],
)
def test_hypervolume_refuses_a_wrong_reference(reference, message):
    with pytest.raises(ValueError, match=message):
        front_of([(0.5, 0.25), (0.25, 0.75)]).hypervolume(reference)


def test_hypervolume_names_its_extra(monkeypatch):
    def missing(module, extra):
        raise ImportError(f"{module} {extra}")

    monkeypatch.setattr(pyfront.front.measures, "import_extra", missing)
    with pytest.raises(ImportError, match="moocore front"):
        front_of([(0.5, 0.25)]).hypervolume([1.0, 1.0])


@given(triples, triples)
def test_more_solutions_dominate_at_least_as_much(points, more):
    pytest.importorskip("moocore")
    one, both = (front_of(p).hypervolume([2.0, 2.0, 2.0]) for p in (points, points + more))
    assert both >= one
    assert front_of(points).non_dominated().hypervolume([2.0] * 3) == pytest.approx(one)


def test_hypervolumes_at_different_points_cannot_be_compared():
    pytest.importorskip("moocore")
    front = front_of([(0.5, 0.25)])
    small, large = front.hypervolume([1.0, 1.0]), front.hypervolume([1.0, 2.0])
    with pytest.raises(ValueError, match=r"\(1.0, 2.0\) and \(1.0, 1.0\)"):
        max(small, large)
    assert max(small, front.hypervolume([1.0, 1.0])) == small


def test_the_reference_point_is_a_tenth_beyond_the_worst_losses():
    front = front_of([(1.0, -2.0, 0.0), (0.5, -4.0, 0.0)])
    np.testing.assert_allclose(front.reference_point(), [1.1, -1.8, 0.0])
    assert front.hypervolume(front.reference_point()) == 0.0  # nothing lies beyond the third task


@given(triples, triples)
def test_igd_plus_is_the_mean_way_to_dominate_each_target(points, target):
    pytest.importorskip("moocore")
    ways = [
        min(math.hypot(*(max(a - b, 0.0) for a, b in zip(p, z, strict=True))) for p in points)
        for z in target
    ]
    front = front_of(points)
    assert front.igd_plus(target) == pytest.approx(sum(ways) / len(ways), abs=1e-12)
    assert front.igd_plus(front_of(target)) == front.igd_plus(target)
    assert front.igd_plus(front) == 0.0
    assert front_of(points + target).igd_plus(target) == 0.0


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ([], r"target: shape \(0,\), expected \(k, 2\)"),
        (Front(), r"target: shape \(0, 0\), expected \(k, 2\)"),
        ([[1.0, 2.0, 3.0]], r"target: shape \(1, 3\), expected \(k, 2\)"),
        ([[1.0, 2.0], [1.0, math.nan]], r"target\[1\]\[1\] = nan"),
    ],
)
def test_igd_plus_refuses_a_wrong_target(target, message):
    with pytest.raises(ValueError, match=message):
        front_of([(0.5, 0.25)]).igd_plus(target)


@pytest.mark.parametrize("measure", ["hypervolume", "igd_plus"])
def test_too_many_tasks(measure):
    front = front_of([[1.0] * 32])
    argument = [2.0] * 32 if measure == "hypervolume" else front
    with pytest.raises(ValueError, match="front: 32 tasks; hypervolume and IGD. take at most 31"):
        getattr(front, measure)(argument)


@pytest.mark.parametrize(
    "measure",
    [
        lambda front: front.hypervolume([1.0, 2.0]),
        lambda front: front.igd_plus([[1.0]]),
        lambda front: front.choose(),
        lambda front: front.choose(weights=[1.0]),
        lambda front: front.reference_point(),
    ],
)
def test_an_empty_front_is_named(measure):
    with pytest.raises(ValueError, match="front: holds no solution"):
        measure(Front())


positive = st.floats(1e-6, 1e6)


@given(st.tuples(positive, positive, positive), st.tuples(positive, positive, positive), positive)
def test_the_angle_depends_on_directions_only(r, losses, factor):
    def angle(r, losses, order=(0, 1, 2)):
        r, losses = ([v[k] for k in order] for v in (r, losses))
        return Front([solution(*losses, preference=r)]).angles("train")[0]

    plain = angle(r, losses)
    assert 0.0 <= plain <= 90.0 + 1e-9
    assert angle([factor * x for x in r], losses) == pytest.approx(plain, abs=1e-9)
    assert angle(r, [factor * x for x in losses]) == pytest.approx(plain, abs=1e-9)
    assert angle(r, losses, (2, 0, 1)) == pytest.approx(plain, abs=1e-9)
    assert angle(r, [1 / x for x in r]) == pytest.approx(0.0, abs=1e-9)
    u = 1 / np.array(r)
    cosine = u @ losses / np.linalg.norm(u) / np.linalg.norm(losses)
    assert math.cos(math.radians(plain)) == pytest.approx(cosine, abs=1e-9)


def test_angles_of_ends_and_without_a_preference():
    front = Front(
        [
            solution(1.0, 1.0),
            solution(0.0, 2.0, preference=[1.0, 0.0]),  # the limit of r = (1, ε) is the axis
            solution(2.0, 0.0, preference=[1.0, 0.0]),
            solution(0.0, 0.0, preference=[0.5, 0.5]),
            solution(1e-200, 1e-200, preference=[1.0, 1.0]),
        ]
    )
    np.testing.assert_allclose(front.angles("train"), [math.nan, 0.0, 90.0, 0.0, 0.0], atol=1e-9)
    assert Front().angles().shape == (0,)


def test_relative_losses_are_flat_on_the_ray_and_missing_without_one():
    front = Front([solution(0.2, 0.6, preference=[6, 2]), solution(1.0, 1.0)])
    np.testing.assert_allclose(front.relative_losses("train"), [[0.15, 0.15], [math.nan] * 2])
    assert Front().relative_losses().shape == (0, 0)


@given(triples, st.tuples(coordinate, coordinate, coordinate), st.sampled_from("rwk"))
def test_choose_returns_the_best_member_that_none_dominates(points, numbers, rule):
    assume(any(numbers))
    front = front_of(points)
    keywords = {"r": {"preference": numbers}, "w": {"weights": numbers}, "k": {}}[rule]
    found = front.choose(**keywords)
    assert any(found is s for s in front.non_dominated())
    if rule == "w":
        assert np.dot(numbers, found.test_losses) <= (front.losses() @ numbers).min() + 1e-12
    if rule == "r":
        same = Front(solution(*s.test_losses, preference=numbers) for s in front.non_dominated())
        angle = Front([solution(*found.test_losses, preference=numbers)]).angles("train")
        assert angle <= same.angles("train").min() + 1e-9


@given(pairs, st.tuples(positive, positive))
def test_the_knee_is_the_farthest_below_the_line_through_the_ends(points, scales):
    best = front_of(points).non_dominated().losses()
    a, b = best[best[:, 0].argmin()], best[best[:, 1].argmin()]
    found = np.array(front_of(points).choose().test_losses)
    if (a == b).all():
        assert (found == a).all()
        return
    normal = np.array([a[1] - b[1], b[0] - a[0]])  # points to the side of larger losses
    below = (a - best) @ normal
    if below.max() > 1e-9:
        assert (a - found) @ normal == pytest.approx(below.max())
    scaled = front_of(best * scales).choose().test_losses  # units do not matter, up to rounding
    assert (a - np.array(scaled) / scales) @ normal == pytest.approx((a - found) @ normal, abs=1e-9)


@given(pairs, st.tuples(positive, positive), st.sampled_from("rk"))
def test_the_choice_is_the_same_in_another_unit_ties_included(points, units, rule):
    """Entries are multiples of 1/4, so that ties are frequent; scaling rounds them."""
    keywords = {"preference": [1.0, 2.0]} if rule == "r" else {}
    factors = units if rule == "k" else (units[0], units[0])  # a ray is one in its units
    plain, scaled = front_of(points), front_of(np.array(points) * factors)
    assert plain.choose(**keywords) is plain[_index(scaled, scaled.choose(**keywords))]


def _index(front, found):
    return next(index for index, s in enumerate(front) if s is found)


def test_equal_solutions_are_told_apart_by_their_sum_and_then_their_order():
    points = np.array([(0.25, 1.25), (0.5, 1.0), (1.25, 0.5), (1.5, 0.0)])
    for unit in (1.0, 1e-6, 3.0, 1e7):
        front = front_of(points * [unit, 1.0])
        assert front.choose() is front[1]
        assert front.choose(weights=[1.0 / unit, 1.0]) is front[0]


def test_the_knee_of_a_concave_front_is_not_an_end():
    t = np.linspace(0, math.pi / 2, 9)
    concave = np.column_stack([np.sin(t), np.cos(t)])
    assert front_of(concave).choose().test_losses == pytest.approx([math.sqrt(0.5)] * 2)


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"preference": [1.0, 1.0], "weights": [1.0, 1.0]}, "a preference or weights, not both"),
        ({"preference": [1.0]}, "preference: expected 2 values, one per task, got 1"),
        ({"preference": [1.0, -1.0]}, r"preference\[1\] = -1"),
        ({"weights": [math.nan, 1.0]}, r"weights\[0\] = nan"),
        ({"weights": [0.0, 0.0]}, "weights: at least one entry must be > 0"),
        ({"split": "valid"}, "split = 'valid'"),
    ],
)
def test_choose_refuses(keywords, message):
    with pytest.raises(ValueError, match=message):
        front_of([(0.5, 0.25)]).choose(**keywords)


def test_an_unknown_metric_is_named_with_those_that_are_known():
    front = Front([solution(1.0, metrics={"a": 1.0, "b": 2.0}), solution(1.0, metrics={"a": 3.0})])
    np.testing.assert_array_equal(front.metric("a"), [1.0, 3.0])
    with pytest.raises(ValueError, match="solution 1 has no metric 'b'; it has: 'a'"):
        front.metric("b")
    with pytest.raises(ValueError, match="solution 0 has no metric 'c'; it has: none"):
        Front([solution(1.0)]).metric("c")


def test_measures_use_the_test_losses_where_all_solutions_have_them():
    pytest.importorskip("moocore")
    tested = front_of([(1.0, 2.0), (2.0, 1.0)])
    mixed = Front([*tested, solution(0.5, 0.5)])
    assert tested.choose().test_losses == (1.0, 2.0)
    assert mixed.choose() is mixed[2]
    assert mixed.igd_plus([[0.5, 0.5]]) == 0.0
    assert len(mixed.non_dominated()) == 1 and mixed.angles().shape == (3,)
    with pytest.raises(ValueError, match="different splits cannot be compared: 'test' and 'train'"):
        max(mixed.hypervolume([3.0, 3.0]), tested.hypervolume([3.0, 3.0]))
    assert mixed.hypervolume([3.0, 3.0]) > tested.hypervolume([3.0, 3.0], "train")


def test_the_common_split():
    measured, not_measured = solution(1.0, test=[1.0]), solution(1.0)
    assert Front([measured]).common_split == "test"
    assert Front([measured, not_measured]).common_split == "train"


@given(st.lists(st.tuples(coordinate, coordinate, coordinate), max_size=12))
def test_non_dominated_is_what_no_other_point_beats(points):
    def beats(p, q):
        return p != q and all(a <= b for a, b in zip(p, q, strict=True))

    kept = [p for p in points if not any(beats(q, p) for q in points)]
    front = front_of(points).non_dominated()
    assert [s.train_losses for s in front] == kept
    assert front.non_dominated() == front


def test_losses_that_were_not_measured():
    front = Front([solution(1.0, 2.0, test=[1.0, 2.0]), solution(1.0, 2.0)])
    with pytest.raises(ValueError, match="solution 1 has no test losses"):
        front.losses("test")
    with pytest.raises(ValueError, match="split = 'valid'"):
        front.losses("valid")
