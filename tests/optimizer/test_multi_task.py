"""The two phases, and the options that all methods share."""

import copy

import pytest
import torch
from multi_task_cases import X, every_method, sgd

import pyfront
from pyfront import (
    EPO,
    MGDA,
    LinearScalarization,
)


def dense_rows(losses, params):
    rows = [
        torch.autograd.grad(loss, params, retain_graph=True, allow_unused=True) for loss in losses
    ]
    return [
        [torch.zeros_like(p) if g is None else g for g, p in zip(row, params, strict=True)]
        for row in rows
    ]


# --------------------------------------------------------------------------------- the two phases


@every_method
def test_backward_fills_grad_with_the_weighted_sum_and_updates_nothing(two_heads, method):
    params = list(two_heads.parameters())
    rows = dense_rows(two_heads.losses(X), params)
    before = [p.detach().clone() for p in params]
    opt = method(sgd(two_heads))
    report = opt.backward(two_heads.losses(X))
    for block, p in enumerate(params):
        expected = sum(w * row[block] for w, row in zip(report.weights.tolist(), rows, strict=True))
        torch.testing.assert_close(p.grad, expected)
        assert torch.equal(p, before[block])
    assert opt.report is report
    opt.step()
    for p, old in zip(params, before, strict=True):
        torch.testing.assert_close(p.detach(), old - 0.1 * p.grad)


@every_method
def test_step_takes_losses_a_tensor_or_a_callable_alike(two_heads, method):
    results = []
    for form in (
        lambda model: model.losses(X),
        lambda model: torch.stack(model.losses(X)),
        lambda model: lambda: model.losses(X),
    ):
        model = copy.deepcopy(two_heads)
        opt = method(sgd(model))
        with torch.no_grad() if callable(form(model)) else torch.enable_grad():
            opt.step(form(model))
        results.append(torch.cat([p.detach().reshape(-1) for p in model.parameters()]))
    assert torch.equal(results[0], results[1]) or torch.allclose(results[0], results[1])
    assert torch.equal(results[0], results[2])


@every_method
def test_grad_is_overwritten_and_unreached_parameters_get_none(two_heads, method):
    lonely = torch.nn.Parameter(torch.ones(3))
    lonely.grad = torch.ones(3)
    opt = method(torch.optim.SGD([*two_heads.parameters(), lonely], lr=0.1))
    opt.backward(two_heads.losses(X))
    first = [p.grad.clone() for p in two_heads.parameters()]
    opt.backward(two_heads.losses(X))
    for p, g in zip(two_heads.parameters(), first, strict=True):
        assert torch.equal(p.grad, g)
    assert lonely.grad is None


@every_method
def test_fixed_loss_is_added_and_not_traded_off(two_heads, method):
    params = list(two_heads.parameters())
    penalty = [p.detach().clone() * 0.2 for p in params]
    opt = method(sgd(two_heads))
    weights = opt.backward(two_heads.losses(X)).weights
    plain = [p.grad.clone() for p in params]
    fixed = sum((p**2).sum() for p in params) * 0.1
    report = opt.backward(two_heads.losses(X), fixed=fixed)
    assert torch.equal(report.weights, weights)
    for p, g, extra in zip(params, plain, penalty, strict=True):
        torch.testing.assert_close(p.grad, g + extra)


@every_method
def test_graph_is_freed_unless_retained(two_heads, method):
    opt = method(sgd(two_heads))
    losses = two_heads.losses(X)
    opt.backward(losses, retain_graph=True)
    opt.backward(losses)
    with pytest.raises(ValueError, match="freed"):
        opt.backward(losses)


@every_method
def test_micro_batches_accumulate_task_gradients(two_heads, method):
    whole = copy.deepcopy(two_heads)
    opt = method(sgd(whole))
    report = opt.step([loss - 0.1 * (j + 1) for j, loss in enumerate(whole.losses(X))])
    opt_parts = method(sgd(two_heads))

    def share(rows):
        losses = two_heads.losses(rows)
        return [(loss - 0.1 * (j + 1)) * len(rows) / len(X) for j, loss in enumerate(losses)]

    opt_parts.accumulate(share(X[:2]))
    opt_parts.accumulate(share(X[2:3]))
    parts = opt_parts.step(share(X[3:]))
    torch.testing.assert_close(parts.losses, report.losses)
    torch.testing.assert_close(parts.weights, report.weights, rtol=1e-4, atol=1e-5)
    for p, q in zip(two_heads.parameters(), whole.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-4, atol=1e-5)


def test_preference_is_settable_between_steps_and_for_one_call(two_heads):
    opt = LinearScalarization(sgd(two_heads), [1.0, 2.0])
    assert opt.preference.tolist() == [1.0, 2.0]
    assert opt.backward(two_heads.losses(X), preference=[3.0, 4.0]).weights.tolist() == [3.0, 4.0]
    assert opt.preference.tolist() == [1.0, 2.0]
    opt.preference = torch.tensor([5.0, 6.0])
    assert opt.backward(two_heads.losses(X)).weights.tolist() == [5.0, 6.0]
    with pytest.raises(ValueError, match="expected 2 values"):
        opt.preference = [1.0, 2.0, 3.0]
    with pytest.raises(TypeError, match="MGDA takes none"):
        MGDA(sgd(two_heads)).backward(two_heads.losses(X), preference=[0.5, 0.5])


# ------------------------------------------------------------------------------ the shared options


@every_method
def test_sum_scale_multiplies_the_step_by_m(two_heads, method):
    mean = method(sgd(two_heads)).backward(two_heads.losses(X)).weights
    total = method(sgd(two_heads), scale="sum").backward(two_heads.losses(X)).weights
    torch.testing.assert_close(total, 2 * mean)


@pytest.mark.parametrize("scale", ["mean", "sum"])
def test_weight_smoothing_is_a_running_average_of_the_applied_weights(two_heads, scale):
    plain, smooth = MGDA(sgd(two_heads)), MGDA(sgd(two_heads), weight_smoothing=0.8, scale=scale)
    average = None
    for step in range(4):
        losses = [loss * (1 + step * j) for j, loss in enumerate(two_heads.losses(X))]
        w = plain.backward(losses, retain_graph=True).weights
        average = w if average is None else 0.8 * average + 0.2 * w
        expected = average * (2 if scale == "sum" else 1)
        torch.testing.assert_close(smooth.backward(losses).weights, expected)


def test_every_keeps_the_weights_between_decisions(two_heads):
    opt = MGDA(sgd(two_heads, lr=0.5), every=3)
    weights = [opt.step(two_heads.losses(X)).weights for _ in range(6)]
    assert torch.equal(weights[0], weights[2]) and torch.equal(weights[3], weights[5])
    assert not torch.equal(weights[2], weights[3])
    params = list(two_heads.parameters())
    rows = dense_rows(two_heads.losses(X), params)
    opt.backward(two_heads.losses(X))
    kept = opt.backward(two_heads.losses(X))  # one backward pass, same weights
    expected = sum(w * row[0] for w, row in zip(kept.weights.tolist(), rows, strict=True))
    torch.testing.assert_close(params[0].grad, expected)


def test_own_task_gradients_and_shared_gramian(two_heads):
    params = list(two_heads.parameters())
    rows = dense_rows(two_heads.losses(X), params)
    opt = MGDA(sgd(two_heads), gramian_over="shared", task_gradients="own")
    report = opt.backward(two_heads.losses(X))
    trunk = [torch.cat([row[0].reshape(-1), row[1].reshape(-1)]).double() for row in rows]
    expected = torch.stack([torch.stack([a @ b for b in trunk]) for a in trunk])
    torch.testing.assert_close(report.gramian, expected, rtol=1e-6, atol=1e-9)
    w = report.weights.tolist()
    torch.testing.assert_close(params[0].grad, w[0] * rows[0][0] + w[1] * rows[1][0])
    torch.testing.assert_close(params[2].grad, rows[0][2])  # the first head's own gradient
    torch.testing.assert_close(params[4].grad, rows[1][4])


def test_roles_are_named_by_group_or_kept_from_the_first_step(two_heads):
    options = {"gramian_over": "shared"}
    named = torch.optim.SGD(
        [
            {"params": two_heads.trunk.parameters()},
            {"params": two_heads.heads.parameters(), "role": "task"},
        ],
        lr=0.1,
    )
    detected = MGDA(sgd(two_heads), **options)
    by_name = MGDA(named, **options).backward(two_heads.losses(X)).gramian
    assert torch.equal(detected.backward(two_heads.losses(X)).gramian, by_name)
    # a loss that leaves out the trunk must not flip roles
    losses = two_heads.losses(X)
    masked = [losses[0], sum((p**2).sum() for p in two_heads.heads[1].parameters())]
    assert detected.backward(masked, retain_graph=True).gramian[1, 1] == 0
    detected.detect_roles()
    with pytest.raises(ValueError, match="no parameter is reached by two losses"):
        detected.backward(masked)


def test_report_and_metrics_are_plain_values(two_heads):
    opt = EPO(sgd(two_heads), [0.7, 0.3])
    assert opt.metrics() == {}
    report = opt.step(two_heads.losses(X))
    plain = report.as_dict()
    assert plain["weights"] == report.weights.tolist() and plain["phase"] in ("balance", "descent")
    metrics = opt.metrics()
    assert set(metrics) == {"loss/0", "loss/1", "weight/0", "weight/1", "non_uniformity"}
    assert all(type(value) is float for value in metrics.values())
    assert repr(opt) == "EPO(SGD, preference=[0.7, 0.3])"


def test_every_public_name_is_documented_and_exported():
    for module in (pyfront, pyfront.functional, pyfront.preferences):
        for name in module.__all__:
            assert getattr(module, name).__doc__, name
