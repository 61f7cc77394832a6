"""Weights of tasks that are absent now and then: they make up for it, and proportions hold."""

import pytest
import torch
from presence_cases import Net, R, adam

import pyfront

HOLD_A_PROPORTION = {
    "feedback": lambda base: pyfront.PreferenceFeedback(base, [1.0, 1.0]),
    "epo": lambda base: pyfront.EPO(base, [1.0, 1.0], weight_smoothing=0.9),
    "epo, smoother": lambda base: pyfront.EPO(base, [1.0, 1.0], weight_smoothing=0.98),
    "mirror": lambda base: pyfront.MirrorTchebycheff(base, [1.0, 1.0]),
    "ferero": lambda base: pyfront.FERERO(base, [1.0, 1.0], gain=30.0),
}


def distances(theta, noise):
    """From (−1, 0) and (1, 0): equal on the line between them, wherever the weights are not."""
    ends = torch.tensor([[-1.0, 0.0], [1.0, 0.0]])
    return [(theta - end + e).square().sum() + 0.1 for end, e in zip(ends, noise, strict=True)]


@pytest.mark.parametrize("name", HOLD_A_PROPORTION)
def test_a_task_that_is_absent_half_of_the_time_ends_at_its_proportion(name):
    generator = torch.Generator().manual_seed(0)
    theta = torch.nn.Parameter(torch.tensor([0.0, 1.0]))
    base = torch.optim.Adam([theta], lr=0.02)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(base, 2000)
    opt = HOLD_A_PROPORTION[name](base)
    for _ in range(2000):
        losses = distances(theta, 0.3 * torch.randn(2, 2, generator=generator))
        if torch.rand((), generator=generator) < 0.5:
            losses[1] = None
        opt.step(losses)
        schedule.step()
    first, second = distances(theta.detach(), torch.zeros(2, 2))
    assert 0.8 < second / first < 1.25  # weights that ignore the absence end at 3.7


def test_weights_make_up_for_the_calls_without_data():
    def weights(*present):
        theta = torch.nn.Parameter(torch.zeros(2))
        opt = pyfront.SmoothTchebycheff(torch.optim.SGD([theta], lr=0.0), [1.0, 1.0])
        for places in present:
            losses = distances(theta, torch.zeros(2, 2))
            report = opt.step([loss if j in places else None for j, loss in enumerate(losses)])
        return report.weights.tolist()

    assert weights([0, 1]) == weights([0], [0, 1]) == [0.5, 0.5]  # counted from its first data on
    assert weights([0, 1], [0], [0], [0, 1]) == [0.5, 0.5]
    calls, with_data = 1.0 + 0.999 + 0.999**2, 1.0 + 0.999**2  # the second, third and fourth
    assert weights([0], [0, 1], [0], [0, 1]) == pytest.approx([0.5, 0.5 * calls / with_data])
    assert weights([0], [0, 1], *[[0]] * 50, [0, 1])[1] == 5.0  # at most ten times


def test_a_method_that_decides_for_each_step_alone_does_not_make_up():
    net = Net()
    opt = pyfront.EPO(adam(net), R)
    for step in range(4):
        report = opt.step(net.losses(step, [0, 1] if step % 2 else [0, 1, 2]))
        assert report.weights.sum() == pytest.approx(1.0)


def test_smoothed_weights_of_tasks_that_are_alone_stay_what_they_were():
    net = Net()
    opt = pyfront.EPO(adam(net), R, weight_smoothing=0.9)
    for step in range(5):
        running = opt.step(net.losses(step)).weights
    alone = opt.step(net.losses(5, [1])).weights
    assert alone[1] == pytest.approx(running[1].item(), rel=1e-12) and running[1] < 0.9
    both = opt.step(net.losses(6, [0, 1])).weights
    assert both.sum() == pytest.approx(running[:2].sum().item(), rel=1e-3)
