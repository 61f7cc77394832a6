"""Weights that steps keep are used while the option that keeps them is set, and no longer."""

import pytest
import torch

import pyfront


def setting(**options):
    p = torch.nn.Parameter(torch.ones(2))
    opt = pyfront.MGDA(torch.optim.SGD([p], lr=0.0), **options)

    def step(a, b):
        losses = [None if a is None else a * p[0], None if b is None else b * p[1]]
        return opt.step(losses).weights.tolist()

    return opt, step


def near(*weights):
    return pytest.approx(weights, abs=1e-12)


def test_weights_are_decided_anew_when_every_is_set_again():
    opt, step = setting(every=2)
    assert step(1.0, 3.0) == near(0.9, 0.1)
    assert step(3.0, 1.0) == near(0.9, 0.1)  # kept
    opt.every = 1
    assert step(3.0, 1.0) == near(0.1, 0.9)
    opt.every = 2
    assert step(1.0, 1.0) == near(0.5, 0.5)
    assert step(3.0, 1.0) == near(0.5, 0.5)


def test_the_average_begins_anew_when_smoothing_is_set_again():
    opt, step = setting(weight_smoothing=0.5)
    step(1.0, 3.0)
    opt.weight_smoothing = 0.0
    step(3.0, 1.0)
    opt.weight_smoothing = 0.5
    assert step(1.0, 1.0) == near(0.5, 0.5)
    opt.weight_smoothing, opt.every = 0.0, 4  # an average is kept from one to the other
    assert step(3.0, 1.0) == near(0.5, 0.5)


def test_nothing_old_is_left_of_a_task_without_data():
    opt, step = setting(every=3)
    step(1.0, 3.0)
    opt.every = 1
    assert step(2.0, None) == near(1.0, 0.0)
    opt.every = 3
    assert step(3.0, 1.0) == near(0.1, 0.9)


def test_how_rare_data_was_is_forgotten_when_smoothing_is_off():
    p = torch.nn.Parameter(torch.ones(2))
    opt = pyfront.EPO(torch.optim.SGD([p], lr=0.0), [0.5, 0.5], weight_smoothing=0.5)
    for _ in range(30):
        opt.step([p[0], None])
    assert opt.memory["presence"]["calls"][0] > 29
    opt.weight_smoothing = 0.0
    opt.step([p[0], p[1]])
    opt.weight_smoothing = 0.5
    weights = opt.step([p[0], p[1]]).weights
    assert weights.sum().item() == pytest.approx(1.0)


def test_a_checkpoint_holds_no_old_weights():
    opt, step = setting(every=2)
    step(1.0, 3.0)
    opt.every = 1
    step(3.0, 1.0)
    assert "weights" not in opt.memory and "age" not in opt.memory
    other, other_step = setting(every=2)
    other.load_state_dict(opt.state_dict())
    assert other_step(1.0, 1.0) == near(0.5, 0.5)


def test_a_call_of_its_own_leaves_kept_weights_alone():
    p = torch.nn.Parameter(torch.ones(2))
    opt = pyfront.EPO(torch.optim.SGD([p], lr=0.0), [1.0, 1.0], every=3)
    kept = opt.step([p[0] ** 2, p[1] ** 2]).weights.tolist()
    opt.step([p[0] ** 2, p[1] ** 2], preference=[5.0, 1.0])
    assert opt.step([p[0] ** 2, 3 * p[1] ** 2]).weights.tolist() == kept
