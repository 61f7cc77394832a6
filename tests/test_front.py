"""The record of solutions: exact numbers back, dominance and hypervolume against slow answers."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import pyfront.measures
from pyfront.front import Front, Solution


def solution(*train, test=None, **keywords):
    keywords = {"method": "EPO", "test_losses": test} | keywords
    return Solution(train_losses=train, **keywords)


def front_of(points):
    return Front(solution(*point, test=point) for point in points)


coordinate = st.integers(0, 6).map(lambda k: k / 4)


@given(st.lists(st.tuples(coordinate, coordinate), max_size=12))
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

    monkeypatch.setattr(pyfront.measures, "require", missing)
    with pytest.raises(ImportError, match="moocore front"):
        front_of([(0.5, 0.25)]).hypervolume([1.0, 1.0])


@given(st.lists(st.tuples(coordinate, coordinate, coordinate), max_size=12))
def test_non_dominated_is_what_no_other_point_beats(points):
    def beats(p, q):
        return p != q and all(a <= b for a, b in zip(p, q, strict=True))

    kept = [p for p in points if not any(beats(q, p) for q in points)]
    front = front_of(points).non_dominated()
    assert [s.train_losses for s in front] == kept
    assert front.non_dominated() == front


def test_it_is_a_sequence():
    front = front_of([(3.0, 1.0), (1.0, 3.0), (2.0, 2.0)])
    assert len(front) == 3
    assert front[-1].train_losses == (2.0, 2.0)
    assert isinstance(front[1:], Front)
    assert [s.test_losses for s in front[1:]] == [(1.0, 3.0), (2.0, 2.0)]
    assert front[0] in front
    np.testing.assert_array_equal(front.losses("train"), [[3.0, 1.0], [1.0, 3.0], [2.0, 2.0]])
    assert Front().losses("test").shape == (0, 0)
    with pytest.raises(IndexError):
        front[3]


def test_losses_that_were_not_measured():
    front = Front([solution(1.0, 2.0, test=[1.0, 2.0]), solution(1.0, 2.0)])
    with pytest.raises(ValueError, match="solution 1 has no test losses"):
        front.losses("test")
    with pytest.raises(ValueError, match="split = 'valid'"):
        front.losses("valid")


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"train_losses": [1.0, math.nan]}, r"train_losses\[1\] = nan"),
        ({"train_losses": []}, "train_losses: expected at least one"),
        ({"train_losses": "12"}, "train_losses = '12'"),
        ({"train_losses": [1.0, True]}, r"train_losses\[1\] = True"),
        ({"test_losses": [1.0]}, "test_losses: 1 values for 2 tasks"),
        ({"test_losses": [1.0, math.inf]}, r"test_losses\[1\] = inf"),
        ({"preference": [0.5, -0.1]}, r"preference\[1\] = -0.1"),
        ({"preference": [0.5]}, "preference: 1 values for 2 tasks"),
        ({"metrics": {"accuracy": math.nan}}, r"metrics\['accuracy'\] = nan"),
        ({"metrics": [1]}, r"metrics = \[1\]"),
        ({"method": None}, "method = None"),
        ({"checkpoint": 3}, "checkpoint = 3"),
    ],
)
def test_a_solution_checks_what_it_is_given(keywords, message):
    with pytest.raises(ValueError, match=message):
        Solution(**({"method": "EPO", "train_losses": [1.0, 2.0]} | keywords))


def test_all_solutions_have_the_same_tasks():
    with pytest.raises(ValueError, match="solution 1 has 3 tasks, those before it 2"):
        Front([solution(1.0, 2.0), solution(1.0, 2.0, 3.0)])


finite = st.floats(allow_nan=False, allow_infinity=False)


@given(
    st.lists(
        st.builds(
            Solution,
            method=st.text(max_size=5),
            train_losses=st.tuples(finite, finite),
            test_losses=st.none() | st.tuples(finite, finite),
            preference=st.none() | st.tuples(st.floats(1e-300, 1e300), st.floats(0.1, 1)),
            metrics=st.dictionaries(st.text(max_size=3), finite, max_size=2),
            checkpoint=st.none() | st.text(max_size=3),
        ),
        max_size=4,
    )
)
def test_saved_numbers_come_back_bit_for_bit(tmp_path_factory, solutions):
    path = tmp_path_factory.mktemp("front") / "front.json"
    Front(solutions).save(path)
    assert Front.load(path) == Front(solutions)
    assert [p.name for p in path.parent.iterdir()] == ["front.json"]


def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "front.json"
    front_of([(1.0, 2.0)]).save(path)
    before = path.read_bytes()

    def fail(self, target):
        raise KeyboardInterrupt

    monkeypatch.setattr("pathlib.Path.replace", fail)
    with pytest.raises(KeyboardInterrupt):
        front_of([(3.0, 4.0)]).save(path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["front.json"]


GOOD = {
    "method": "EPO",
    "train_losses": [1.0, 2.0],
    "test_losses": None,
    "preference": None,
    "metrics": {},
    "checkpoint": None,
}


def saved(*solutions, **keywords):
    document = {"format": "pyfront.front", "version": 1, "solutions": list(solutions)}
    return json.dumps(document | keywords)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not a JSON file"),
        ("\xff\xfe\x00", "not a JSON file"),
        (saved(GOOD)[:-20], "not a JSON file"),
        ("[" * 100_000, "not a JSON file"),
        ("[]", "not a front saved by pyfront"),
        ('{"a": 1}', "not a front saved by pyfront"),
        (saved(GOOD, version=2), "version 2, this pyfront reads 1"),
        (saved(GOOD, solutions={}), "'solutions' is not a list"),
        (saved(GOOD, 7), "solution 1: expected an object, got 7"),
        (saved({"method": "EPO"}), "solution 0: missing keys: train_losses, test_losses, pref"),
        (saved(GOOD, GOOD | {"extra": 1}), "solution 1: unknown keys: extra"),
        (saved(GOOD | {"train_losses": [1.0, math.nan]}), r"solution 0: train_losses\[1\] = nan"),
        (saved(GOOD | {"train_losses": [1.0, "x"]}), r"solution 0: train_losses\[1\] = 'x'"),
        (saved(GOOD | {"train_losses": [1.0, 10**400]}), r"solution 0: train_losses\[1\] = 1"),
        (
            saved(GOOD, GOOD | {"train_losses": [1.0]}),
            ": solution 1 has 1 tasks, those",
        ),
    ],
)
def test_corrupt_and_foreign_files_are_named(tmp_path, text, message):
    path = tmp_path / "front.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(ValueError, match=message) as error:
        Front.load(path)
    assert str(path) in str(error.value)


def test_a_missing_file():
    with pytest.raises(FileNotFoundError):
        Front.load("no-such-front.json")
