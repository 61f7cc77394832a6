"""Dynamic weight average against the paper's formula on recorded losses."""

import json
import math

import pytest
import torch

from pyfront import DynamicWeightAverage

TASKS = [1, 2, 3, 5]


def step(opt, x, values):
    """A step on losses with the given values."""
    return opt.step([x.sum() - x.detach().sum() + value for value in values])


def make(**options):
    x = torch.nn.Parameter(torch.zeros(3, dtype=torch.float64))
    return DynamicWeightAverage(torch.optim.SGD([x], lr=0.1), **options), x


def history(num_tasks, steps):
    generator = torch.Generator().manual_seed(num_tasks)
    return 0.1 + torch.rand(steps, num_tasks, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("num_tasks", TASKS)
@pytest.mark.parametrize(("epoch", "temperature"), [(1, 2.0), (4, 2.0), (3, 0.3)])
def test_weights_are_the_papers_on_the_means_of_epochs(num_tasks, epoch, temperature):
    opt, x = make(steps_per_epoch=epoch, temperature=temperature)
    values = history(num_tasks, 5 * epoch)
    means = values.reshape(5, epoch, num_tasks).mean(dim=1)
    for index, row in enumerate(values.tolist()):
        report, t = step(opt, x, row), index // epoch
        expected = torch.ones(num_tasks, dtype=torch.float64)
        if t >= 2:
            expected = num_tasks * torch.softmax(means[t - 1] / means[t - 2] / temperature, dim=0)
        torch.testing.assert_close(report.weights, expected)
        assert math.isclose(report.weights.sum().item(), num_tasks, rel_tol=1e-12)


def test_a_loss_that_falls_more_slowly_gets_more_weight_whatever_its_unit():
    opt, x = make()
    for values in ([1.0, 1000.0], [0.9, 500.0]):
        step(opt, x, values)
    weights = step(opt, x, [0.8, 250.0]).weights
    assert weights[0] > 1 > weights[1]
    again, x = make()
    for values in ([7.0, 1.0], [6.3, 0.5]):
        step(again, x, values)
    torch.testing.assert_close(step(again, x, [1.0, 1.0]).weights, weights)


def test_a_high_temperature_makes_equal_weights_and_a_low_one_picks_a_task():
    for temperature, expected in ((1e12, [1.0, 1.0]), (1e-300, [2.0, 0.0])):
        opt, x = make(temperature=temperature)
        for values in ([1.0, 1.0], [0.9, 0.2], [1.0, 1.0]):
            report = step(opt, x, values)
        torch.testing.assert_close(report.weights, torch.tensor(expected, dtype=torch.float64))


def test_zero_and_extreme_losses_give_finite_weights():
    opt, x = make()
    for values in ([0.0, 1e-300], [0.0, 1e300], [1.0, 1.0]):
        report = step(opt, x, values)
    assert report.weights.isfinite().all() and report.weights.tolist() == [0.0, 2.0]
    opt, x = make()
    for _ in range(3):
        assert step(opt, x, [0.0, 0.0]).weights.tolist() == [1.0, 1.0]


def test_it_costs_one_backward_pass():
    opt, x = make()
    calls = []
    x.register_hook(lambda g: calls.append(g))
    report = step(opt, x, [1.0, 2.0, 3.0])
    assert len(calls) == 1 and report.gramian is None


def epoch_means(opt):
    """The means of the epochs that have ended, at most the last three."""
    memory = opt.memory
    kept = [memory[name] for name in ("mean_before", "mean_last") if name in memory]
    sums = zip(memory["epoch_sum"], memory["epoch_count"], strict=True)
    last = [total / count for total, count in sums]
    ended = memory["epoch_of_sum"][0] < memory["epoch"]
    return [mean for mean in kept if None not in mean] + [last] * ended


def test_backward_alone_does_not_count():
    opt, x = make()
    step(opt, x, [1.0, 1.0])
    for _ in range(3):
        opt.backward([x.sum() + 1.0, x.sum() + 1.0])
    assert opt.memory["epoch"] == 1
    opt.step()
    assert opt.memory["epoch"] == 2
    opt.step()
    assert opt.memory["epoch"] == 2


def test_a_step_that_the_scaler_skips_does_not_count():
    x = torch.nn.Parameter(torch.ones(3))
    opt = DynamicWeightAverage(torch.optim.SGD([x], lr=0.1), steps_per_epoch=2)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    for factor in (1.0, math.inf, 2.0):
        opt.backward([(x - x.detach()).sum() + factor, x.sum() * 0 + 1.0], scaler=scaler)
        scaler.step(opt)
        scaler.update()
    assert epoch_means(opt) == [[1.5, 1.0]] and opt.memory["epoch_steps"] == 0


def test_an_epoch_that_is_cut_by_a_checkpoint_goes_on():
    opt, x = make(steps_per_epoch=3)
    values = history(2, 9).tolist()
    for row in values[:5]:
        step(opt, x, row)
    saved = opt.state_dict()
    resumed, y = make(steps_per_epoch=3)
    resumed.load_state_dict(saved)
    for row in values[5:]:
        a, b = step(opt, x, row), step(resumed, y, row)
        assert torch.equal(a.weights, b.weights)
    assert (a.weights != 1).all()


def test_micro_batches_count_as_one_batch():
    opt, x = make()
    opt.accumulate([0.5 * (x.sum() + 2.0), 0.5 * (x.sum() + 4.0)])
    opt.step([0.5 * (x.sum() + 2.0), 0.5 * (x.sum() + 6.0)])
    assert epoch_means(opt) == [[2.0, 5.0]]


def test_every_and_smoothing():
    opt, x = make(every=2)
    for values in ([4.0, 4.0], [9.0, 9.0], [2.0, 1.0], [9.0, 9.0]):
        step(opt, x, values)
    assert epoch_means(opt) == [[4.0, 4.0], [2.0, 1.0]]
    smooth, x = make(weight_smoothing=0.5)
    for values in ([1.0, 1.0], [1.0, 0.5]):
        step(smooth, x, values)
    plain = 2 * torch.softmax(torch.tensor([0.5, 0.25], dtype=torch.float64), dim=0)
    torch.testing.assert_close(step(smooth, x, [1.0, 1.0]).weights, 0.5 + 0.5 * plain)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"steps_per_epoch": 0}, ValueError, "steps_per_epoch = 0"),
        ({"steps_per_epoch": 1.5}, TypeError, "steps_per_epoch: expected an integer"),
        ({"temperature": 0.0}, ValueError, "temperature = 0.0"),
        ({"temperature": -2.0}, ValueError, "temperature = -2.0"),
        ({"temperature": math.nan}, ValueError, "temperature = nan"),
        ({"temperature": math.inf}, ValueError, "temperature = inf"),
        ({"preference": [1, 1]}, TypeError, "DynamicWeightAverage takes none"),
    ],
)
def test_bad_arguments(arguments, error, message):
    with pytest.raises(error, match=message):
        make(**arguments)


def test_bad_losses_change_nothing():
    opt, x = make()
    step(opt, x, [1.0, 2.0])
    memory, gradient = json.dumps(opt.memory), x.grad.clone()
    cases = [
        ([1.0, 2.0, 3.0], "expected 2 as in earlier steps, got 3"),
        ([1.0], "expected 2 as in earlier steps, got 1"),
        ([1.0, -2.0], r"losses\[1\] = -2.*ratios"),
        ([math.nan, 2.0], r"losses\[0\] = nan"),
    ]
    for values, message in cases:
        with pytest.raises(ValueError, match=message):
            step(opt, x, values)
    assert json.dumps(opt.memory) == memory and torch.equal(x.grad, gradient)


def test_a_checkpoint_of_longer_epochs_ends_the_epoch_at_the_next_step():
    def opt(steps_per_epoch):
        x = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
        base = torch.optim.SGD([x], lr=0.01)
        made = DynamicWeightAverage(base, steps_per_epoch=steps_per_epoch)
        return made, lambda: made.step([x[0] ** 2, 3 * x[1] ** 2])

    first, step = opt(10)
    for _ in range(7):
        step()
    second, step = opt(5)
    second.load_state_dict(first.state_dict())
    for _ in range(11):
        weights = step().weights
    assert weights.tolist() != [1.0, 1.0]
