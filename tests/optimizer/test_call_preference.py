"""A preference of one call decides there, and leaves nothing behind."""

import copy
from functools import partial

import pytest
import torch

import pyfront


@pytest.mark.parametrize("options", [{"every": 3}, {"weight_smoothing": 0.9}])
def test_a_preference_of_one_call_does_not_reach_into_the_next(options):
    def weights(between):
        x = torch.nn.Parameter(torch.tensor([1.0, 1.0]))
        opt = pyfront.LinearScalarization(torch.optim.SGD([x], lr=0.0), [0.5, 0.5], **options)
        found = []
        for step in range(4):
            if between and step == 1:
                report = opt.step([x[0] ** 2, x[1] ** 2], preference=[0.9, 0.1])
                assert report.weights.tolist() == [0.9, 0.1]
            found.append(opt.step([x[0] ** 2, x[1] ** 2]).weights.tolist())
        return found

    assert weights(True) == weights(False)


@pytest.mark.parametrize(
    "make",
    [
        pyfront.PreferenceFeedback,
        pyfront.EPO,
        pyfront.SmoothTchebycheff,
        pyfront.MirrorTchebycheff,
        pyfront.FERERO,
        partial(pyfront.FERERO, gramian_over="shared"),
        partial(pyfront.FERERO, every=2, weight_smoothing=0.5),
    ],
)
def test_whatever_a_method_carries_a_preference_of_one_call_leaves_it(make):
    def own(between):
        x = torch.nn.Parameter(torch.tensor([1.0, 1.5], dtype=torch.float64))
        opt = make(torch.optim.SGD([x], lr=0.0), [0.6, 0.4])
        found = []
        for step in range(6):
            if between and step in (2, 3):
                before = copy.deepcopy(opt.memory)
                opt.step([(x - 1.2).square().sum(), (x + 1).square().sum()], preference=[1, 9])
                assert opt.memory == before
            found.append(opt.step([(x - 1.2).square().sum(), (x + 1).square().sum()]))
        return [report.weights.tolist() for report in found], opt.memory

    assert own(True) == own(False)
