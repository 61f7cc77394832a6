"""Gradient scaling: the method decides on unscaled numbers and the scaler sees scaled gradients."""

import copy

import multi_task_cases
import pytest
import torch
from multi_task_cases import X

from pyfront import MGDA, UncertaintyWeighting

METHODS = multi_task_cases.METHODS | {
    "uncertainty": lambda base, **options: UncertaintyWeighting(base, 2, lr=0.01, **options)
}


@pytest.fixture(params=METHODS)
def method(request):
    return METHODS[request.param]


def scaler_of(scale):
    return torch.amp.GradScaler("cpu", init_scale=scale, growth_interval=1000)


def sgd(model):
    return multi_task_cases.sgd(model, momentum=0.9)


def equal(a, b):
    return all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True))


def test_scaled_training_with_clipping_is_unscaled_training(two_heads, method):
    plain = copy.deepcopy(two_heads)
    opt, scaled, scaler = method(sgd(plain)), method(sgd(two_heads)), scaler_of(2.0**16)
    for _ in range(3):
        report = opt.backward(plain.losses(X))
        torch.nn.utils.clip_grad_norm_(plain.parameters(), 0.05)
        opt.step()

        report_scaled = scaled.backward(two_heads.losses(X), scaler=scaler)
        assert max(p.grad.abs().max() for p in two_heads.parameters()) > 100  # left scaled
        scaler.unscale_(scaled)
        torch.nn.utils.clip_grad_norm_(two_heads.parameters(), 0.05)
        scaler.step(scaled)
        scaler.update()
        # a power of two: nothing may be lost
        assert torch.equal(report.weights, report_scaled.weights)
        assert torch.equal(report.losses, report_scaled.losses)
        if report.gramian is not None:
            assert torch.equal(report.gramian, report_scaled.gramian)
    assert equal(plain, two_heads)


@pytest.mark.parametrize("where", ["gradient", "loss"])
def test_an_overflow_skips_the_step_and_training_goes_on(two_heads, method, where):
    opt, scaler = method(sgd(two_heads), weight_smoothing=0.5), scaler_of(1024.0)
    before = copy.deepcopy(two_heads)
    losses = two_heads.losses(X)
    if where == "gradient":
        hook = two_heads.trunk.weight.register_hook(lambda g: g * float("inf"))
    else:
        losses[1] = losses[1] * float("inf")
    report = opt.backward(losses, scaler=scaler)
    assert report.status == "nonfinite" and report.weights.isnan().all()
    assert "weights" not in opt.memory
    scaler.step(opt)
    scaler.update()
    assert equal(two_heads, before) and scaler.get_scale() == 512.0
    if where == "gradient":
        hook.remove()
    opt.backward(two_heads.losses(X), scaler=scaler)
    scaler.step(opt)
    scaler.update()
    assert not equal(two_heads, before) and opt.report.status == "ok"
    assert all(p.isfinite().all() for p in two_heads.parameters())


def test_half_precision_scaled_gradients_do_not_underflow_in_the_gramian():
    p = torch.nn.Parameter(torch.full((64,), 1e-2, dtype=torch.float16))
    scaler = scaler_of(2.0**14)
    opt = MGDA(torch.optim.SGD([p], lr=0.1))
    # gradients of 2e-8 vanish in float16 unless the loss is scaled before the backward pass
    losses = [p.float().sum() * 2e-8, p.float().square().sum() * 2e-6]
    report = opt.backward(losses, scaler=scaler)
    expected = torch.tensor([64 * 4e-16, 64 * 4e-8**2], dtype=torch.float64)
    torch.testing.assert_close(report.gramian.diagonal(), expected, rtol=5e-3, atol=0)
    assert (p.grad != 0).all()


def test_bfloat16_parameters_train(two_heads, method):
    model = two_heads.to(torch.bfloat16)
    opt = method(torch.optim.SGD(model.parameters(), lr=0.5))
    x = X.bfloat16()
    first = sum(loss.item() for loss in model.losses(x))
    for _ in range(20):
        opt.step(model.losses(x))
    assert sum(loss.item() for loss in model.losses(x)) < first
    assert all(p.grad.dtype == torch.bfloat16 for p in model.parameters())


def test_autocast_training(two_heads, method):
    opt = method(sgd(two_heads))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = [(y.float() ** 2).mean() for y in two_heads(X)]
    report = opt.step(losses)
    assert report.status == "ok" and all(p.grad.dtype == p.dtype for p in two_heads.parameters())


def test_a_disabled_scaler_changes_nothing(two_heads, method):
    plain = copy.deepcopy(two_heads)
    method(sgd(plain)).step(plain.losses(X))
    opt, scaler = method(sgd(two_heads)), torch.amp.GradScaler("cpu", enabled=False)
    opt.backward(two_heads.losses(X), scaler=scaler)
    scaler.step(opt)
    scaler.update()
    assert equal(plain, two_heads)
