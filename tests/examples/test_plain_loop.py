"""Mixed precision, micro-batches, averaged weights and compiled loops train as they should."""

import compiled
import plain_loop
import plain_training
import pytest
import torch
from two_tasks import TwoTasks, balance, batches, losses


@pytest.fixture
def doubles():
    """Sums in another order then differ by less than 1e-7 after several steps of Adam."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_mixed_precision_reaches_the_preference(dtype):
    assert balance(plain_loop.mixed_precision(60, dtype)) == pytest.approx(1.0, abs=0.1)


def test_scaled_losses_decide_as_unscaled_ones():
    model = TwoTasks()
    opt = plain_training.optimizer(model)
    for batch in batches(3):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = losses(model, batch)
        opt.backward(found)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        opt.step()
    plain_training.assert_close(plain_loop.mixed_precision(3), model)


def test_micro_batches_decide_once_on_the_whole_batch(doubles):
    expected, _ = plain_training.trained(batches(3))
    plain_training.assert_close(plain_loop.micro_batches(3), expected)
    assert balance(plain_loop.micro_batches(60)) == pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize("decay", [0.9, None])
def test_averages_are_those_of_the_steps(decay):
    model = TwoTasks()
    opt, means = plain_training.optimizer(model), None
    for count, batch in enumerate(batches(2)):
        opt.step(losses(model, batch))
        now = [p.detach().clone() for p in model.parameters()]
        if means is None:
            means = now
        else:
            share = 1 / (count + 1) if decay is None else 1 - decay
            means = [a + share * (b - a) for a, b in zip(means, now, strict=True)]
    for p, mean in zip(plain_loop.averaged(2, decay).parameters(), means, strict=True):
        torch.testing.assert_close(p.detach(), mean, rtol=1e-6, atol=1e-7)
    assert balance(plain_loop.averaged(60, decay)) == pytest.approx(1.0, abs=0.2)


def test_a_resumed_loop_is_bit_equal():
    whole = plain_loop.resumable(4)
    rest = plain_loop.resumable(2, plain_loop.resumable(2))
    assert all(torch.equal(rest["model"][k], v) for k, v in whole["model"].items())
    assert rest["opt"]["param_groups"] == whole["opt"]["param_groups"]
    assert rest["schedule"] == whole["schedule"]


@pytest.mark.parametrize("train", [compiled.compiled_model, compiled.compiled_step])
def test_compiled_loops_are_the_plain_loop(train, doubles):
    plain_training.assert_close(train(2, "aot_eager"), plain_training.trained(batches(2))[0])
    assert balance(train(60, "aot_eager")) == pytest.approx(1.0, abs=0.1)
