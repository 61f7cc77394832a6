"""How a report is shown; what is in it is tested with the methods."""

import math

import pytest
import torch

import pyfront
from pyfront import Report

TASKS = ("segmentation", "<depth>")


def doubles(*values):
    return torch.tensor(values, dtype=torch.float64)


def full(**changes):
    fields = {
        "weights": doubles(0.25, 0.75),
        "losses": doubles(1.5, math.nan),
        "gramian": torch.tensor([[4.0, 1.0], [1.0, 9.0]], dtype=torch.float64),
        "tasks": TASKS,
    }
    return Report(**{**fields, **changes})


def test_a_report_is_shown_as_a_table():
    report = full(phase="balance", non_uniformity=0.0123, gap=1e-17)
    assert repr(report).splitlines() == [
        "Report: ok, balance, non_uniformity 0.0123",
        "  task          loss  √C  weight",
        "  segmentation   1.5   2    0.25",
        "  <depth>        nan   3    0.75",
    ]
    assert str(report) == repr(report)


def test_what_a_method_does_not_know_is_left_out():
    report = Report(doubles(0.25, 0.75), status="iteration_limit", gap=0.5)
    assert repr(report).splitlines() == [
        "Report: iteration_limit, gap 0.5",
        "  task    weight",
        "  task 0    0.25",
        "  task 1    0.75",
    ]


def test_a_ray_out_of_reach_names_the_nearest():
    report = full(status="unreachable", reachable_preference=doubles(0.4, 0.6))
    assert repr(report).startswith("Report: unreachable, reachable_preference [0.4, 0.6]\n")


def test_notebooks_show_html_whose_names_are_escaped():
    html = full()._repr_html_()
    assert "&lt;depth&gt;" in html and "<depth>" not in html
    assert html.count("<tr>") == 3 and "<caption>Report: ok</caption>" in html


@pytest.mark.parametrize("m", [20, 21])
def test_many_tasks_are_cut(m):
    lines = repr(Report(torch.full((m,), 1.0 / m, dtype=torch.float64))).splitlines()
    assert len(lines) == 2 + 20 + (m > 20)
    assert ("…" in lines[-1]) == (m > 20)


def test_a_step_without_data_for_a_task_can_be_shown():
    x = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
    opt = pyfront.MGDA(torch.optim.SGD([x], lr=0.1))
    shown = repr(opt.step([x[0] ** 2, None]))
    assert "task 1   nan  nan       0" in shown
