"""Constraints by feedback as an optimizer: the end point, checkpoints, bad input."""

import copy

import pytest
import torch

from pyfront import ConstraintFeedback

X = torch.linspace(-1, 1, 30).reshape(6, 5)


def losses_of(x):
    """Least at 1 and at −1."""
    return [(x - 1).square().sum(), (x + 1).square().sum()]


@pytest.mark.parametrize("base", [torch.optim.SGD, torch.optim.Adam])
def test_it_ends_on_its_bound(base):
    x = torch.nn.Parameter(torch.tensor([-0.5], dtype=torch.float64))
    opt = ConstraintFeedback(base([x], lr=0.01), 0, {1: 1.44}, averaging=0.0)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(opt, 2000)
    for _ in range(2000):
        report = opt.step(losses_of(x))
        schedule.step()
    assert x.item() == pytest.approx(0.2, abs=2e-3) and report.status == "ok"
    weights, holds = opt.suggest_weights()
    assert holds and weights[1] / weights[0] == pytest.approx(0.8 / 1.2, rel=0.05)


def test_infeasible_bounds_are_a_status():
    x = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
    opt = ConstraintFeedback(torch.optim.SGD([x], lr=0.05), {0: 1.0}, {0: 0.5, 1: 0.5})
    statuses = [opt.step(losses_of(x)).status for _ in range(2500)]
    assert statuses[0] == "ok" and statuses[-1] == "infeasible"
    assert abs(x.item()) < 0.1  # the bounds share what there is


def test_a_loss_in_neither_objective_nor_bounds_has_no_weight():
    x = torch.nn.Parameter(torch.zeros(1))
    opt = ConstraintFeedback(torch.optim.SGD([x], lr=0.1), 0, {1: 0.5})
    assert opt.step([*losses_of(x), x.exp().sum()]).weights[2] == 0.0


def test_a_checkpoint_resumes_bit_for_bit(two_heads):
    def make(model):
        base = torch.optim.Adam(model.parameters(), lr=0.01)
        return ConstraintFeedback(base, 0, {1: 0.05}, every=2)

    opt = make(two_heads)
    for _ in range(5):
        opt.step(two_heads.losses(X))
    twin = copy.deepcopy(two_heads)
    other = make(twin)
    other.load_state_dict(copy.deepcopy(opt.state_dict()))
    for _ in range(5):
        first, second = opt.step(two_heads.losses(X)), other.step(twin.losses(X))
        assert torch.equal(first.weights, second.weights)
    assert opt.memory == other.memory


def test_bad_input_is_named_and_changes_nothing(two_heads):
    base = torch.optim.SGD(two_heads.parameters(), lr=0.1)
    for arguments, message in [
        ((0, {}), "bounds: expected at least one"),
        ((0, {1: float("nan")}), r"bounds\[1\] = nan"),
        ((0, {-1: 1.0}), "bounds = -1"),
        (({}, {1: 1.0}), "objective, bounds"),
    ]:
        with pytest.raises(ValueError, match=message):
            ConstraintFeedback(base, *arguments)
    opt = ConstraintFeedback(base, 0, {2: 0.5})
    memory = copy.deepcopy(opt.memory)
    with pytest.raises(ValueError, match="losses: got 2, but objective and bounds name task 2"):
        opt.step(two_heads.losses(X))
    assert opt.memory == memory and two_heads.trunk.weight.grad is None
    with pytest.raises(ValueError, match="no decision"):
        opt.suggest_weights()
