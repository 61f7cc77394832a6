"""The record of solutions: a sequence with one number of tasks, and merging."""

import re

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


def test_it_prints_as_a_table():
    front = Front([solution(0.2, 3.0, preference=[0.7, 0.3]), solution(1 / 3, 1.0, method="a\n")])
    assert repr(front).splitlines() == [
        "Front: 2 solutions, 2 tasks, training losses",
        "   method  preference      task 1  task 2",
        "0  EPO     (0.700, 0.300)     0.2       3",
        r"1  a\n     any             0.3333       1",
    ]
    assert repr(Front()) == "Front: empty"
    long = Front([solution(*range(1, 12), test=[5.0] * 11)] * 100)
    lines = repr(long).splitlines()
    assert len(lines) == 23 and lines[12].split() == ["…"] and "task 8  …" in lines[1]
    assert lines[0] == "Front: 100 solutions, 11 tasks, test losses"


def test_a_notebook_shows_a_table_without_running_any_text():
    front = Front([solution(1.0, 2.0, method="<b>", tasks=["<i>", "depth"], checkpoint="<p>")])
    text = front._repr_html_()
    assert text.count("<tr>") == 2 and "<th>depth</th>" in text and "<td>2</td>" in text
    assert front[0]._repr_html_().count("<tr>") == 3
    for shown in (text, front[0]._repr_html_()):
        assert "&lt;i&gt;" in shown and not {"<b>", "<i>", "<p>"} & set(re.findall("<.*?>", shown))
    assert Front()._repr_html_().count("<tr>") == 1


def test_names_of_tasks_are_those_of_all_solutions():
    named = solution(1.0, 2.0, tasks=["segmentation", "depth"])
    assert Front([named]).tasks == ("segmentation", "depth")
    assert Front([solution(1.0, 2.0)]).tasks == ("task 1", "task 2")
    assert Front().tasks == ()
    assert Front([solution(1.0, 2.0)], tasks=["segmentation", "depth"]) == Front([named])
    for tasks in (None, ["depth", "segmentation"]):
        with pytest.raises(ValueError, match="solution 1 has tasks .*, those before it segm"):
            Front([named, solution(1.0, 2.0, tasks=tasks)])
    with pytest.raises(ValueError, match=r"fronts\[1\] has tasks without names, those before it s"):
        Front.merge([Front([named]), Front([solution(1.0, 2.0)])])
    with pytest.raises(ValueError, match="tasks: 3 names for 2 tasks"):
        Front([solution(1.0, 2.0)], tasks=["a", "b", "c"])
    with pytest.raises(ValueError, match=r"tasks\[1\] = 'a': the same as tasks\[0\]"):
        Front(tasks=["a", "a"])
