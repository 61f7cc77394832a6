"""Rows travel while the passes run that compute them."""

import distributed_overlap as cases
from distributed_cases import same
from launch import launch

from pyfront._utils import torch_private


def test_all_buckets_of_a_row_but_the_last_are_sent_within_its_pass():
    for found, buckets in launch(cases.places, 2):
        assert buckets > 3
        row = ["within"] * (buckets - 1) + ["after"]
        assert found["MGDA"] == 3 * row
        assert found["PreferenceFeedback"] == row
        assert found["SingleLoopMGDA"] == ["after"] * buckets  # of a record


def test_heads_of_other_tasks_hold_nothing_up():
    for sent, buckets in launch(cases.heads_of_others, 2):
        assert buckets > 3 and sent == 3 * (["within"] * (buckets - 1) + ["after"])


def test_parameters_keep_their_own_hooks_alone():
    for hooks, seen, (kept, *copied) in launch(cases.left_alone, 2):
        assert hooks == ["trunk.weight"]
        assert seen == 2 * 3  # steps, passes
        assert kept > 3 and copied == [0, 0]


def test_a_backward_pass_inside_a_backward_pass_is_not_taken_for_it():
    expected = cases.nested(0, 1)
    for found in launch(cases.nested, 2):
        same(found, expected)


def test_without_the_name_rows_travel_between_passes(monkeypatch):
    monkeypatch.setattr(torch_private, "_found", lambda *_: None)
    assert torch_private.backward_pass() is None
