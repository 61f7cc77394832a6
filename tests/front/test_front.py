"""The record of solutions: a sequence with one number of tasks, and merging."""

import numpy as np
import pytest
from fronts import front_of, solution

from pyfront.front.front import Front


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


def test_all_solutions_have_the_same_tasks():
    with pytest.raises(ValueError, match="solution 1 has 3 tasks, those before it 2"):
        Front([solution(1.0, 2.0), solution(1.0, 2.0, 3.0)])


def test_what_is_added_is_a_solution():
    with pytest.raises(TypeError, match="expected a Solution, got dict"):
        Front([{"method": "EPO"}])


def test_by_method_keeps_the_order_of_the_first_solutions():
    front = Front(solution(k, 1.0, method=name) for k, name in enumerate("abcab"))
    parts = front.by_method()
    assert list(parts) == ["a", "b", "c"]
    assert parts["b"] == Front([front[1], front[4]])
    assert repr(front) == "Front(5 solutions: a, b, c)"


def test_merge_keeps_copies_once_and_repeated_runs_both():
    first = Front([solution(1.0, 2.0, metrics={"seconds": 1.0}), solution(2.0, 1.0)])
    again = solution(1.0, 2.0, metrics={"seconds": 2.0})
    other = solution(1.0, 2.0, metrics={"seconds": 1.0}, checkpoint="a.pt")
    merged = Front.merge([first, Front(), Front([again, *first, other])])
    assert list(merged) == [*first, again, other]
    assert Front.merge([first, first]) == first == Front.merge([first])
    assert Front.merge([]) == Front()
    merged.add(solution(9.0, 9.0))
    assert len(first) == 2  # what was merged is not changed


def test_merge_refuses_another_number_of_tasks():
    with pytest.raises(ValueError, match=r"fronts\[2\] has 3 tasks, those before it 2"):
        Front.merge([front_of([(1.0, 2.0)]), Front(), front_of([(1.0, 2.0, 3.0)])])
