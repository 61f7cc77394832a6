"""Uncertainty weighting against joint training of log-variances by autograd."""

import copy
import json
import math

import numpy as np
import pytest
import torch

from pyfront import MGDA, UncertaintyWeighting

TASKS = [1, 2, 3, 5]


def start(n=4):
    generator = torch.Generator().manual_seed(n)
    return torch.randn(n, generator=generator, dtype=torch.float64)


def losses_of(x, num_tasks):
    """Squared distances to num_tasks points, in units from 1 to 10^(num_tasks − 1)."""
    return [10.0**j * ((x - j) ** 2).sum() for j in range(num_tasks)]


def paper_total(losses, s, kinds):
    """Eq. (7) and (10) of the paper, with σ² = e^s."""
    terms = [
        loss / (2 * s[j].exp()) if kind == "regression" else loss / s[j].exp()
        for j, (loss, kind) in enumerate(zip(losses, kinds, strict=True))
    ]
    return sum(terms) + (s / 2).sum()


@pytest.mark.parametrize("num_tasks", TASKS)
@pytest.mark.parametrize("mixed", [False, True])
def test_with_adam_it_is_joint_training_of_model_and_log_variances(num_tasks, mixed):
    kinds = ["regression", "classification"] * num_tasks if mixed else ["regression"] * num_tasks
    kinds = kinds[:num_tasks]
    x = torch.nn.Parameter(start())
    opt = UncertaintyWeighting(torch.optim.Adam([x], lr=0.03), num_tasks, likelihood=kinds)
    y, s = torch.nn.Parameter(start()), torch.nn.Parameter(torch.zeros(num_tasks).double())
    joint = torch.optim.Adam([y, s], lr=0.03)
    for _ in range(60):
        opt.step(losses_of(x, num_tasks))
        joint.zero_grad()
        paper_total(losses_of(y, num_tasks), s, kinds).backward()
        joint.step()
    torch.testing.assert_close(x, y, rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(opt.log_variances, s.detach(), rtol=1e-9, atol=1e-11)


def test_log_variances_follow_the_schedule_of_the_base_or_have_their_own_rate():
    def run(lr):
        x = torch.nn.Parameter(start())
        opt = UncertaintyWeighting(torch.optim.SGD([x], lr=1e-3), 2, lr=lr)
        schedule = torch.optim.lr_scheduler.ExponentialLR(opt, gamma=0.5)
        for _ in range(3):
            opt.step([1e-6 * x.sum() + 50.0, 1e-6 * x.sum() + 90.0])
            schedule.step()
        return opt.log_variances

    # Adam's steps are as long as its rate while the gradient stays the same
    torch.testing.assert_close(run(None), torch.full((2,), 1.75e-3).double(), rtol=0.01, atol=0)
    torch.testing.assert_close(run(2e-3), torch.full((2,), 6e-3).double(), rtol=0.01, atol=0)
    assert run(0.0).tolist() == [0.0, 0.0]


@pytest.mark.parametrize(("likelihood", "factor"), [("regression", 0.5), ("classification", 1.0)])
def test_constant_losses_end_with_the_maximum_likelihood_variance(likelihood, factor):
    x = torch.nn.Parameter(torch.zeros(2))
    opt = UncertaintyWeighting(torch.optim.SGD([x], lr=0.0), 2, likelihood=likelihood, lr=0.05)
    for _ in range(1500):
        report = opt.step([x.sum() + 0.1, x.sum() + 5.0])
    expected = torch.tensor([0.1, 5.0], dtype=torch.float64).mul(2 * factor).log()
    torch.testing.assert_close(opt.log_variances, expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(report.weights * report.losses, torch.full((2,), 0.5).double())


def test_it_costs_one_backward_pass_and_weights_are_those_before_the_step():
    x = torch.nn.Parameter(start())
    calls = []
    hook = x.register_hook(lambda g: calls.append(g))
    opt = UncertaintyWeighting(torch.optim.SGD([x], lr=0.01), 3, likelihood="classification")
    report = opt.step(losses_of(x, 3))
    hook.remove()
    assert len(calls) == 1 and report.gramian is None
    assert report.weights.tolist() == [1.0, 1.0, 1.0]
    s = opt.log_variances
    assert (s != 0).all() and torch.equal(opt.step(losses_of(x, 3)).weights, (-s).exp())


def test_backward_alone_trains_nothing_and_step_trains_once():
    x = torch.nn.Parameter(start())
    opt = UncertaintyWeighting(torch.optim.SGD([x], lr=0.01), 2)
    first = opt.backward(losses_of(x, 2))
    gradient = x.grad.clone()
    second = opt.backward(losses_of(x, 2))
    assert torch.equal(first.weights, second.weights) and torch.equal(gradient, x.grad)
    assert opt.log_variances.tolist() == [0.0, 0.0]
    opt.step()
    trained = opt.log_variances
    assert (trained != 0).all() and opt.memory["moments"]["steps"] == [1, 1]
    opt.step()  # no new losses: nothing more is learnt
    assert torch.equal(opt.log_variances, trained)
    opt.backward(losses_of(x, 2))
    opt.zero_grad()
    opt.step()
    assert torch.equal(opt.log_variances, trained)


def test_a_call_that_fails_late_leaves_the_state():
    x = torch.nn.Parameter(start())
    opt = UncertaintyWeighting(torch.optim.Adam([x], lr=0.01), 2, weight_smoothing=0.5, every=2)
    opt.step(losses_of(x, 2))
    opt.step(losses_of(x, 2))
    before = copy.deepcopy(opt.state_dict())["param_groups"]
    losses = losses_of(x, 2)
    sum(losses).backward()  # frees the graph: the one backward pass of the step will fail
    x.grad = None
    with pytest.raises(ValueError, match="freed"):
        opt.step(losses)
    assert opt.state_dict()["param_groups"] == before and x.grad is None


@pytest.mark.parametrize("where", ["loss", "gradient"])
def test_a_step_that_the_scaler_skips_trains_nothing(where):
    x = torch.nn.Parameter(start().float())
    opt = UncertaintyWeighting(torch.optim.SGD([x], lr=0.01), 2, weight_smoothing=0.5)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    opt.backward(losses_of(x, 2), scaler=scaler)
    scaler.step(opt)
    scaler.update()
    before = json.dumps(opt.memory)
    losses = losses_of(x, 2)
    if where == "loss":
        losses[1] = losses[1] * math.inf
    else:
        losses[1] = losses[1] + (x - x.detach()).abs().sqrt().sum()
    opt.backward(losses_of(x, 2), scaler=scaler)  # prepared, and then overtaken by a bad batch
    memory = json.loads(json.dumps(opt.memory))
    assert opt.backward(losses, scaler=scaler).status == "nonfinite"
    scaler.step(opt)
    scaler.update()
    assert scaler.get_scale() == 512.0
    kept = ("log_variances", "moments")
    assert [opt.memory[key] for key in kept] == [json.loads(before)[key] for key in kept]
    with pytest.raises(RuntimeError, match="still scaled by 512"):
        opt.step()
    opt.zero_grad()
    opt.step()
    assert [opt.memory[key] for key in kept] == [memory[key] for key in kept]


def test_every_and_smoothing_and_scale():
    x = torch.nn.Parameter(start())
    opt = UncertaintyWeighting(torch.optim.SGD([x], lr=0.0), 2, lr=0.1, every=3)
    trained = []
    for _ in range(7):
        opt.step(losses_of(x, 2))
        trained.append(opt.log_variances[1].item())
    assert trained[0] == trained[2] != trained[3] == trained[5] != trained[6]
    smooth = UncertaintyWeighting(
        torch.optim.SGD([x], lr=0.0), 2, lr=0.1, weight_smoothing=0.5, scale="sum"
    )
    first, s = smooth.step(losses_of(x, 2)).weights, smooth.log_variances
    second = smooth.step(losses_of(x, 2)).weights
    assert first.tolist() == [1.0, 1.0]
    torch.testing.assert_close(second, 0.5 * first + 0.5 * (-s).exp())


def test_micro_batches_are_one_batch():
    x, y = torch.nn.Parameter(start()), torch.nn.Parameter(start())
    whole = UncertaintyWeighting(torch.optim.SGD([x], lr=1e-3), 2)
    parts = UncertaintyWeighting(torch.optim.SGD([y], lr=1e-3), 2)
    for _ in range(3):
        whole.step(losses_of(x, 2))
        parts.accumulate([0.25 * loss for loss in losses_of(y, 2)])
        parts.step([0.75 * loss for loss in losses_of(y, 2)])
    torch.testing.assert_close(x, y)
    torch.testing.assert_close(whole.log_variances, parts.log_variances)


def test_zero_and_huge_losses_stay_finite():
    x = torch.nn.Parameter(torch.zeros(2).double())
    opt = UncertaintyWeighting(torch.optim.SGD([x], lr=0.0), 2, lr=30.0)
    for _ in range(5):
        report = opt.step([(x**2).sum(), x.sum() + 1e200])
        assert report.weights.isfinite().all()
        assert opt.log_variances.isfinite().all() and opt.log_variances.abs().max() <= 50.0


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"num_tasks": 0}, ValueError, "num_tasks = 0"),
        ({"num_tasks": 2.0}, TypeError, "num_tasks: expected an integer"),
        ({"num_tasks": 2, "lr": -1.0}, ValueError, "lr = -1.0"),
        ({"num_tasks": 2, "lr": math.nan}, ValueError, "lr = nan"),
        ({"num_tasks": 2, "lr": "fast"}, TypeError, "lr: expected a number, got 'fast'"),
        ({"num_tasks": 2, "likelihood": "poisson"}, ValueError, r"likelihood\[0\] = 'poisson'"),
        ({"num_tasks": 2, "likelihood": ["regression"]}, ValueError, "expected 2 words.*got 1"),
        ({"num_tasks": 2, "preference": [1, 1]}, TypeError, "UncertaintyWeighting takes none"),
    ],
)
def test_bad_arguments(arguments, error, message):
    base = torch.optim.SGD([torch.nn.Parameter(start())], lr=0.1)
    with pytest.raises(error, match=message):
        UncertaintyWeighting(base, **arguments)


def test_bad_losses_change_nothing():
    x = torch.nn.Parameter(start())
    opt = UncertaintyWeighting(torch.optim.SGD([x], lr=0.1), 2)
    memory = json.dumps(opt.memory)
    cases = [
        (losses_of(x, 3), "expected 2 as in num_tasks, got 3"),
        ([x.sum() * 0 - 1, x.sum()], r"losses\[0\] = -1.*variance"),
        ([x.sum() * 0 + 1, x.sum() * math.nan], r"losses\[1\] = nan"),
    ]
    for losses, message in cases:
        with pytest.raises(ValueError, match=message):
            opt.step(losses)
    assert json.dumps(opt.memory) == memory and x.grad is None


def test_a_base_without_a_rate_needs_one():
    x = torch.nn.Parameter(start())
    base = torch.optim.SGD([x], lr=0.1)
    del base.param_groups[0]["lr"]
    with pytest.raises(ValueError, match="lr = None: SGD has none"):
        UncertaintyWeighting(base, 2)
    assert UncertaintyWeighting(base, 2, lr=0.1).lr == 0.1


def test_checkpoints_of_another_number_of_tasks_or_method_are_refused():
    x = torch.nn.Parameter(start())
    opt = UncertaintyWeighting(torch.optim.SGD([x], lr=0.1), 3)
    opt.step(losses_of(x, 3))
    saved = opt.state_dict()
    other = UncertaintyWeighting(torch.optim.SGD([x], lr=0.2), 2)
    with pytest.raises(ValueError, match="holds 3 log-variances, expected 2"):
        other.load_state_dict(saved)
    with pytest.raises(ValueError, match="saved by UncertaintyWeighting, not by MGDA"):
        MGDA(torch.optim.SGD([x], lr=0.2)).load_state_dict(saved)
    assert other.log_variances.tolist() == [0.0, 0.0] and other.param_groups[0]["lr"] == 0.2
    bare = torch.optim.SGD([x], lr=0.3).state_dict()
    opt.load_state_dict(bare)
    assert opt.param_groups[0]["lr"] == 0.3 and opt.log_variances.abs().min() > 0
    assert np.isfinite(opt.log_variances.numpy()).all()
