"""A task without data in a batch: the decision is made on the others, and its state is kept."""

import copy
import math

import numpy as np
import pytest
import torch
from presence_cases import METHODS, Net, R, adam, assert_same, there

import pyfront
from pyfront.optimizer.presence import Presence

#: Where r or u is normalised twice, or the sum of running weights w∘u is 1 up to rounding alone.
ROUNDED = {"pareto", "alternating", "feedback", "feedback-units", "epo-units"}
OPTIONS = [
    {},
    {"weight_smoothing": 0.5},
    {"every": 2},
    {"scale": "sum"},
    {"task_gradients": "own"},
    {"gramian_over": "shared"},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("name", METHODS)
def test_a_task_that_never_has_data_is_as_if_it_were_not_there(name, options):
    places = [0, 2]
    net, small = Net(), Net()
    opt, other = (
        METHODS[name](adam(net), [0, 1, 2], **options),
        METHODS[name](adam(small), places, **options),
    )
    for step in range(6):
        report = opt.step(net.losses(step, places))
        expected = other.step(there(small.losses(step, places)))
        assert report.weights[1] == 0.0 and math.isnan(report.losses[1])
        rounding = 1e-12 if name in ROUNDED else 0.0
        assert torch.allclose(report.weights[places], expected.weights, rtol=0.0, atol=rounding)
        assert report.status == expected.status and report.phase == expected.phase
        assert "loss/1" not in report.metrics() and "loss/2" in report.metrics()
        assert all(p.grad is None for p in net.heads[1].parameters())
    for p, q in zip(net.parameters(), small.parameters(), strict=True):
        assert torch.allclose(p, q, rtol=0.0, atol=rounding)


def state_of(opt, place):
    """What the memory holds for one task."""
    found = {}
    presence = Presence([place], 3)
    for name, entry in opt.memory_among(opt.memory, presence).items():
        if name in (*opt.per_task, "weights"):
            found[name] = (
                {k: v for k, v in entry.items() if isinstance(v, list)}
                if isinstance(entry, dict)
                else entry
            )
    return copy.deepcopy(found)


@pytest.mark.parametrize("options", [{}, {"weight_smoothing": 0.5}, {"every": 2}], ids=str)
@pytest.mark.parametrize("name", METHODS)
def test_the_state_of_an_absent_task_is_kept_and_goes_on(name, options):
    net = Net()
    opt = METHODS[name](adam(net), [0, 1, 2], **options)
    for step in range(3):
        opt.step(net.losses(step))
    before, others = state_of(opt, 2), copy.deepcopy(opt.memory)
    for step in range(3, 6):
        opt.step(net.losses(step, [0, 1]))
    if name != "ferero-rows":  # whose rows are not of one task each
        assert state_of(opt, 2) == before
    if set(opt.per_task) - {"seen", "mean_losses"} or options:
        assert opt.memory != others
    saved, twin = copy.deepcopy(opt.state_dict()), copy.deepcopy(net)
    resumed = METHODS[name](adam(twin), [0, 1, 2], **options)
    resumed.load_state_dict(saved)
    for step in range(6, 10):  # a task that comes back, and one that leaves
        places = [1, 2] if step % 2 else [0, 1, 2]
        report = opt.step(net.losses(step, places))
        assert torch.equal(report.weights, resumed.step(twin.losses(step, places)).weights)
        assert report.weights.isfinite().all()
    assert_same(net, twin)


@pytest.mark.parametrize("name", METHODS)
def test_a_task_that_comes_later_starts_then(name):
    net = Net()
    opt = METHODS[name](adam(net), [0, 1, 2], weight_smoothing=0.5)
    for step, places in enumerate([[2], [0, 1], [1, 2], [0, 1, 2], [0, 1, 2], [0]]):
        report = opt.step(net.losses(step, places))
        absent = [task for task in range(3) if task not in places]
        assert (report.weights[absent] == 0.0).all() and report.weights.isfinite().all()
        assert report.losses[absent].isnan().all()


@pytest.mark.parametrize("name", METHODS)
def test_micro_batches_without_data_for_some_tasks(name):
    net, whole = Net(), Net()
    opt, other = METHODS[name](adam(net), [0, 1, 2]), METHODS[name](adam(whole), [0, 1, 2])
    parts = [([0, 1], 0.5), ([], 0.0), ([1], 0.25), ([2], 1.0)]
    for step in range(3):
        for places, share in parts[:-1]:
            opt.accumulate(
                [None if loss is None else share * loss for loss in net.losses(step, places)]
            )
        report = opt.step(net.losses(step, [2]))
        x, y, z = whole.losses(step)
        expected = other.step([0.5 * x, 0.75 * y, z])
        assert torch.allclose(report.weights, expected.weights, rtol=1e-9, atol=1e-9)
    for p, q in zip(net.parameters(), whole.parameters(), strict=True):
        assert torch.allclose(p, q, rtol=1e-6, atol=1e-9)


def test_the_last_micro_batch_may_have_no_data_at_all():
    net, whole = Net(), Net()
    opt, other = pyfront.EPO(adam(net), R), pyfront.EPO(adam(whole), R)
    opt.accumulate(net.losses(0, [0, 2]))
    report = opt.step([None] * 3)
    expected = other.step(whole.losses(0, [0, 2]))
    assert torch.equal(report.weights, expected.weights) and report.weights[1] == 0.0
    assert_same(net, whole)


@pytest.mark.parametrize("name", ["mgda", "uncertainty", "ferero", "linear", "famo"])
def test_with_a_gradient_scaler(name):
    net, plain = Net(), Net()
    opt, other = METHODS[name](adam(net), [0, 1, 2]), METHODS[name](adam(plain), [0, 1, 2])
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    for step in range(4):
        places = [0, 1] if step % 2 else [0, 1, 2]
        opt.backward(net.losses(step, places), scaler=scaler)
        scaler.step(opt)
        scaler.update()
        other.step(plain.losses(step, places))
    for p, q in zip(net.parameters(), plain.parameters(), strict=True):
        assert torch.allclose(p, q, rtol=1e-9, atol=1e-12)


def test_a_fixed_loss_features_and_the_upper_bound():
    for options in ({}, {"upper_bound": True}):
        net, small = Net(), Net()
        opt, other = (
            pyfront.EPO(adam(net), R, **options),
            pyfront.EPO(adam(small), R[:2], **options),
        )
        for step in range(3):
            found = []
            for model in (net, small):
                x = torch.randn(8, 4, generator=torch.Generator().manual_seed(step)).double()
                z = torch.tanh(model.trunk(x))
                losses = [(head(z) ** 2).mean() for head in model.heads[:2]]
                fixed = sum((p**2).sum() for p in model.heads.parameters()) * 0.01
                found.append((losses, {"features": z, "fixed": fixed}))
            (a, given), (b, kept) = found
            report = opt.step([*a, None], **given)
            assert torch.equal(report.weights[:2], other.step(b, **kept).weights)
        assert_same(net, small)


@pytest.mark.parametrize("products", ["double_backward", "forward", "difference"])
def test_products(products):
    net, small = Net(), Net()
    opt = pyfront.SingleLoopMGDA(adam(net), products=products)
    other = pyfront.SingleLoopMGDA(adam(small), products=products)
    for step in range(3):
        opt.step(lambda step=step: net.losses(step, [0, 2]))
        other.step(lambda step=step: there(small.losses(step, [0, 2])))
    assert_same(net, small)


def test_a_second_batch_must_have_data_for_the_same_tasks():
    net = Net()
    opt = pyfront.SingleLoopMGDA(adam(net))
    report = opt.step(net.losses(0, [0, 2]), second=net.losses(1, [0, 2]))
    assert report.weights.tolist() == [0.5, 0.0, 0.5]
    with pytest.raises(ValueError, match=r"second\[1\] and losses\[1\]: one of them is None"):
        opt.step(net.losses(0, [0, 2]), second=net.losses(1))


def test_a_preference_of_one_call():
    net, small = Net(), Net()
    opt, other = pyfront.EPO(adam(net), R), pyfront.EPO(adam(small), [0.5, 0.5])
    report = opt.step(net.losses(0, [0, 2]), preference=[0.2, 0.7, 0.1])
    expected = other.step(there(small.losses(0, [0, 2])), preference=[0.2, 0.1])
    assert torch.equal(report.weights[[0, 2]], expected.weights)


def test_errors_name_the_place_and_change_nothing():
    net = Net()
    opt = pyfront.EPO(adam(net), R, weight_smoothing=0.5)
    opt.step(net.losses(0))
    memory, weights = copy.deepcopy(opt.memory), net.trunk.weight.clone()
    with pytest.raises(ValueError, match="losses: all are None"):
        opt.step([None, None, None])
    with pytest.raises(ValueError, match=r"losses\[2\] = -1"):
        opt.step([None, net.losses(0)[1], net.losses(0)[2] * 0 - 1.0])
    with pytest.raises(ValueError, match=r"losses\[2\] = nan"):
        opt.step([None, net.losses(0)[1], net.losses(0)[2] * math.nan])
    with pytest.raises(ValueError, match=r"losses\[2\]: the graph reaches no parameter"):
        opt.step([None, net.losses(0)[1], torch.ones((), requires_grad=True) * 1])
    with pytest.raises(ValueError, match="losses: expected 3"):
        opt.step([None, net.losses(0)[1]])
    with pytest.raises(ValueError, match="it has no graph; .*give None"):
        opt.step([torch.tensor(0.0), *net.losses(0)[1:]])
    assert opt.memory == memory and torch.equal(net.trunk.weight, weights)
    with pytest.raises(ValueError, match="losses: expected 3"):
        pyfront.UncertaintyWeighting(adam(net), 3).step([net.losses(0)[0], None])
    opt.accumulate(net.losses(0, [0]))
    with pytest.raises(ValueError, match="losses: expected 3 as in accumulate"):
        opt.step(net.losses(0)[:2])


def test_a_zero_gradient_with_a_graph_is_stationary():
    net = Net()
    for normalization in (None, "l2", "loss", "loss+"):
        opt = pyfront.MGDA(adam(net), normalization=normalization)
        losses = net.losses(0)
        report = opt.backward([*losses[:2], losses[2] * 0.0])
        assert report.status == "stationary"
        assert all(p.grad is None or not p.grad.any() for p in net.parameters())
    assert pyfront.MGDA(adam(net)).backward(net.losses(0)).status == "ok"


def test_roles_of_an_absent_task_stay():
    net = Net()
    opt = pyfront.MGDA(adam(net), gramian_over="shared", task_gradients="own")
    opt.step(net.losses(0, [0]))  # one loss proves nothing
    opt.step(net.losses(1))
    c = opt.backward(net.losses(2, [0, 1])).gramian
    assert c[2].isnan().all() and c[:, 2].isnan().all()
    g = torch.autograd.grad(net.losses(2)[0], net.trunk.parameters())
    assert torch.allclose(c[0, 0], sum((t**2).sum() for t in g))
    plain = torch.autograd.grad(net.losses(2)[1], net.heads[1].parameters())
    for p, gradient in zip(net.heads[1].parameters(), plain, strict=True):
        assert torch.allclose(p.grad, gradient)


# ------------------------------------------------------------------------------------- Pareto MTL


def test_reference_vectors_that_drop_out():
    base = lambda: adam(Net())  # noqa: E731
    vectors = [[0.0, 0.0, 1.0], [1.0, 1.0, 0.5], [0.5, 0.5, 1.0], [1.0, 0.2, 0.1]]
    opt = pyfront.ParetoMTL(base(), vectors, 1)
    presence = Presence([0, 1], 3)
    left = opt.goal_among(opt.goal(None, 3), presence)
    expected = np.array([[1.0, 1.0], [1.0, 0.2]])  # of u_0 nothing is left, u_2 becomes u_1
    assert np.allclose(left, expected / np.linalg.norm(expected, axis=1, keepdims=True))
    net = Net()
    own_is_zero = pyfront.ParetoMTL(adam(net), vectors, 0)
    report = own_is_zero.backward(net.losses(0, [0, 1]))
    nearest = pyfront.functional.min_norm_weights(report.gramian[:2, :2])[0]
    assert torch.allclose(report.weights[:2], nearest) and report.phase == "convergence"
    assert own_is_zero.phase == "feasibility"  # which such a step does not end


def test_feasibility_is_judged_where_all_tasks_have_data():
    net = Net()
    opt = pyfront.ParetoMTL(adam(net), [[1.0, 1.0, 1.0], [0.0, 0.0, 1.0]], 0, warmup_steps=3)
    losses = net.losses(0, [0, 1])
    opt.step(losses)  # inside, as far as these two tell
    assert opt.phase == "feasibility" and opt.memory["seen"] == [1, 1, None]
    opt.step([*net.losses(1)[:2], net.losses(1)[1]])
    assert opt.phase == "descent" and opt.feasible


def test_subproblems_at_once():
    vectors = np.array([[1.0, 0.2], [0.5, 0.5], [0.2, 1.0]])
    x = torch.nn.Parameter(torch.tensor([0.3, -0.2, 0.5], dtype=torch.float64))
    opt = pyfront.ParetoMTL(torch.optim.SGD([x], lr=0.1), vectors, None, schedule="alternating")
    losses = [(x - k).square().sum() * (1 + j) for k in range(3) for j in range(2)]
    full = opt.backward(losses)
    assert (full.weights != 0).any()
    losses = [None if place in (1, 2, 3) else (x[place % 3] - 2.0) ** 2 for place in range(6)]
    report = opt.backward(losses)
    assert (report.weights[[1, 2, 3]] == 0).all() and report.weights.isfinite().all()


def test_errors_of_products_name_the_place_among_all_tasks():
    net = Net()
    opt = pyfront.SingleLoopMGDA(adam(net), products="forward")
    batches = iter(range(10))
    with pytest.raises(ValueError, match=r"closure: losses\[1\] was .* when called again"):
        opt.step(lambda: net.losses(next(batches), [1, 2]))


def test_a_value_without_graph_counts_tasks_that_the_last_batch_did_not_have():
    p = torch.nn.Parameter(torch.tensor([1.0, 2.0, 3.0]))
    opt = pyfront.LinearScalarization(torch.optim.SGD([p], lr=0.1), [0.5, 0.3, 0.2])

    def value():
        with torch.no_grad():
            return opt.scalarize([torch.tensor(x) for x in (1.0, 10.0, 100.0)]).item()

    opt.step([p[0], None, None])
    assert value() == pytest.approx(0.5 * 111.0)  # no weight of the others is known
    opt.step([p[0], p[1], None])
    assert value() == pytest.approx(0.5 + 3.0 + 40.0)
    opt.step([p[0], p[1], p[2]])
    opt.step([None, p[1], None])
    assert value() == pytest.approx(0.5 + 3.0 + 20.0)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    opt.backward([p[0], p[1], p[2] * torch.inf], scaler=scaler)
    assert opt.report.status == "nonfinite" and value() == pytest.approx(0.5 + 3.0 + 20.0)
    scaler.step(opt)
    scaler.update()
    opt.backward([p[0], None, None], scaler=scaler)
    assert value() == pytest.approx(0.5 + 3.0 + 20.0)
    again = copy.deepcopy(opt)
    with torch.no_grad():
        assert again.scalarize(torch.ones(3)).item() == pytest.approx(1.0)
