"""Gains that follow the learning rate: warm-up, restarts, rates of 0, groups, tensors."""

import math

import numpy as np
import pytest
import torch

from pyfront import PreferenceFeedback
from pyfront.control import PreferenceController
from pyfront.control.gains import growth, largest_rate


def factors(rates):
    largest, out = 0.0, []
    for rate in rates:
        largest = max(largest, rate)
        out.append(growth(rate, largest))
    return out


def test_constant_and_rising_rates_leave_the_gains_as_they_are():
    assert factors([0.1] * 5) == [1.0] * 5
    assert factors([0.0, 0.0, 0.01, 0.05, 0.1]) == [1.0] * 5  # warm-up from 0
    assert factors([0.1, 0.2, 0.4]) == [1.0] * 3


def test_they_grow_as_the_rate_falls_up_to_ten_and_fall_back_at_a_restart():
    assert factors([0.1, 0.05, 0.02, 0.01, 0.001, 0.0]) == [1.0, 2.0, 5.0, 10.0, 10.0, 10.0]
    assert factors([0.1, 0.01, 0.1, 0.05]) == [1.0, 10.0, 1.0, 2.0]
    assert factors([0.1, 0.01, 0.2, 0.1]) == [1.0, 10.0, 1.0, 2.0]


@pytest.mark.parametrize("rate", [5e-324, 1e-300, 1e300])
def test_extreme_rates_give_factors_between_one_and_ten(rate):
    assert all(1.0 <= f <= 10.0 for f in factors([rate, rate / 2, 0.0, rate]))


def test_the_largest_rate_of_the_groups_counts():
    assert largest_rate([0.1, torch.tensor(0.5), None, torch.tensor([0.2])]) == 0.5
    assert largest_rate([None]) == 0.0 and largest_rate([math.nan, 0.1]) == 0.1


def run(rates, groups=lambda rate: [rate], **options):
    """The factors that an optimizer's weights imply at constant losses."""
    params = [torch.nn.Parameter(torch.ones(1)) for _ in groups(0.0)]
    base = torch.optim.SGD([{"params": [p]} for p in params], lr=1.0)
    options = {"proportional": 0.7, "integral": 0.0, "floor": 0.0} | options
    opt = PreferenceFeedback(base, [0.5, 0.5], **options)
    found = []
    for rate in rates:
        for group, value in zip(opt.param_groups, groups(rate), strict=True):
            group["lr"] = value
        total = sum(p.sum() for p in params)
        w = opt.backward([2.0 * total / total.detach(), total / total.detach()]).weights
        found.append(math.log(w[0] / w[1]) / (0.7 * math.log(2.0)))
    return np.array(found), opt


@pytest.mark.parametrize(
    "groups",
    [
        lambda rate: [rate],
        lambda rate: [torch.tensor(rate, dtype=torch.float64)],
        lambda rate: [0.3 * rate, rate, 0.0],
    ],
    ids=["float", "tensor", "groups"],
)
def test_the_optimizer_reads_the_rates_of_its_groups(groups):
    rates = [0.0, 0.05, 0.1, 0.05, 0.02, 0.001, 0.0, 0.1, 0.4, 0.2]
    found, _ = run(rates, groups)
    np.testing.assert_allclose(found, factors(rates), rtol=1e-9)
    fixed, _ = run(rates, groups, gains="fixed")
    np.testing.assert_allclose(fixed, 1.0, rtol=1e-9)


def test_the_largest_rate_is_saved():
    _, opt = run([0.1, 0.02])
    _, other = run([0.02])
    other.load_state_dict(opt.state_dict())
    assert other.memory["largest_rate"] == 0.1


@pytest.mark.parametrize(
    "scheduler",
    [
        lambda opt: torch.optim.lr_scheduler.OneCycleLR(opt, max_lr=0.1, total_steps=60),
        lambda opt: torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(opt, T_0=15),
        lambda opt: torch.optim.lr_scheduler.ExponentialLR(opt, gamma=1.01),
        lambda opt: torch.optim.lr_scheduler.LinearLR(opt, start_factor=1e-3, total_iters=30),
    ],
    ids=["one-cycle", "restarts", "rising", "warm-up"],
)
def test_torch_schedulers_drive_the_gains(scheduler):
    x = torch.nn.Parameter(torch.tensor([0.3], dtype=torch.float64))
    opt = PreferenceFeedback(torch.optim.SGD([x], lr=0.05), [0.5, 0.5], averaging=0.0)
    schedule = scheduler(opt)
    for _ in range(60):
        before, lr = opt.memory.get("largest_rate", 0.0), opt.param_groups[0]["lr"]
        report = opt.step([(x - 1).square().sum(), (x + 1).square().sum()])
        schedule.step()
        assert opt.memory["largest_rate"] == max(before, lr)
        assert torch.isfinite(report.weights).all()
    assert abs(x.item()) < 0.05


def test_a_controller_without_rates_has_constant_gains():
    with_rates, without = PreferenceController([1, 1]), PreferenceController([1, 1])
    for losses in np.random.default_rng(0).lognormal(size=(10, 2)):
        same = with_rates.weights(losses, rate=0.1).tolist()
        assert without.weights(losses).tolist() == same
