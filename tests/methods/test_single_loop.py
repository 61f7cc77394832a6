"""Methods that follow their weights by one product a step, or by the losses alone."""

import copy
import math

import pytest
import torch
from gradient_cases import reference
from method_cases import X, relative_error, sgd
from torch.utils.checkpoint import checkpoint

from pyfront import (
    EPO,
    FERERO,
    MirrorTchebycheff,
    PreferenceFeedback,
    SingleLoopMGDA,
    SmoothTchebycheff,
)
from pyfront.functional import min_norm_weights
from pyfront.problems import ConcaveProblem, QuadraticProblem

METHODS = {
    "mgda": lambda base, **options: SingleLoopMGDA(base, **options),
    "frank-wolfe": lambda base, **options: SingleLoopMGDA(base, update="frank_wolfe", **options),
    "ferero": lambda base, **options: FERERO(base, [0.7, 0.3], **options),
    "smooth": lambda base, **options: SmoothTchebycheff(base, [0.7, 0.3], **options),
    "mirror": lambda base, **options: MirrorTchebycheff(base, [0.7, 0.3], **options),
}
BY_PRODUCTS = ["mgda", "frank-wolfe", "ferero"]


# ------------------------------------------------------------------------------------------- MGDA


@pytest.mark.parametrize(("update", "tolerance"), [("projected", 0.02), ("frank_wolfe", 0.06)])
def test_at_one_point_the_weights_go_to_those_of_mgda(update, tolerance):
    problem = QuadraticProblem(5, scales=[1.0, 4.0, 0.5, 1.0, 2.0])
    theta = torch.nn.Parameter(torch.tensor([0.3, -0.2, 0.5, 0.1, 0.4], dtype=torch.float64))
    opt = SingleLoopMGDA(
        sgd([theta], 0.0), update=update, rate=0.05 if update != "projected" else 0.3
    )
    for _ in range(300):
        report = opt.step(problem.losses(theta))
    jacobian = reference(list(problem.losses(theta)), [theta])
    exact = min_norm_weights(jacobian @ jacobian.T).weights
    gaps = opt.report.gap, (report.weights - exact).abs().max().item()
    assert gaps[1] < tolerance and gaps[0] >= 0.0
    assert abs(report.weights.sum().item() - 1.0) < 1e-12 and (report.weights >= 0).all()


@pytest.mark.parametrize("update", ["projected", "frank_wolfe"])
def test_it_ends_on_the_front(update):
    problem = QuadraticProblem(4, scales=[1.0, 3.0, 0.2, 1.0])
    theta = torch.nn.Parameter(torch.tensor([2.0, -1.0, 0.5, 3.0], dtype=torch.float64))
    opt = SingleLoopMGDA(sgd([theta], 0.1), update=update, rate=0.05)
    for _ in range(600):
        opt.step(problem.losses(theta))
    point = theta.detach()  # the Pareto set is the unit simplex
    assert abs(point.sum().item() - 1.0) < 1e-2 and point.min() > -1e-2


def test_a_spike_does_not_freeze_the_weights():
    problem = QuadraticProblem(3, scales=[1.0, 4.0, 0.5])
    theta = torch.nn.Parameter(torch.tensor([0.3, -0.2, 0.5], dtype=torch.float64))
    opt = SingleLoopMGDA(sgd([theta], 0.0))
    opt.step([1000 * loss for loss in problem.losses(theta)])
    for _ in range(2500):
        report = opt.step(problem.losses(theta))
    jacobian = reference(list(problem.losses(theta)), [theta])
    exact = min_norm_weights(jacobian @ jacobian.T).weights
    assert (report.weights - exact).abs().max() < 0.02


# --------------------------------------------------------------------------- what they all promise


@pytest.mark.parametrize("name", BY_PRODUCTS)
def test_all_ways_to_a_product_take_the_same_steps(two_heads, name):
    ends = {}
    for way in ("double_backward", "forward", "rows", "accumulate", "sum", "fixed"):
        model = copy.deepcopy(two_heads)
        options = {"rows": {"task_gradients": "own"}, "forward": {"products": "forward"}}
        scale = {"scale": "sum"} if way == "sum" else {}
        base = sgd(model.trunk.parameters(), 0.05 if scale else 0.1)
        opt = METHODS[name](base, **scale, **options.get(way, {}))
        for _ in range(4):
            if way == "accumulate":
                opt.accumulate([0.5 * loss for loss in model.losses(X)])
                opt.step([0.5 * loss for loss in model.losses(X)])
            elif way == "forward":
                opt.step(lambda model=model: model.losses(X))
            elif way == "fixed":
                losses = model.losses(X)
                opt.step(losses, fixed=0.0 * losses[0])
            else:
                opt.step(model.losses(X))
        ends[way] = torch.cat(
            [model.trunk.weight.flatten(), opt.report.weights / (2 if scale else 1)]
        )
    for end in ends.values():
        torch.testing.assert_close(end, ends["double_backward"], rtol=1e-4, atol=1e-6)


def reentrant(model):
    """All of the model inside one checkpoint, so that the graph shows none of its parameters."""
    x = X.clone().requires_grad_()
    return checkpoint(lambda v: torch.stack(model.losses(v)), x, use_reentrant=True)


@pytest.mark.parametrize("name", METHODS)
def test_a_reentrant_checkpoint_is_handled_or_refused_with_advice(two_heads, name):
    plain = copy.deepcopy(two_heads)
    opt = METHODS[name](sgd(plain.parameters()))
    other = METHODS[name](sgd(two_heads.parameters()))
    if name in BY_PRODUCTS:
        with pytest.raises(RuntimeError, match="use_reentrant=False.*'difference'"):
            other.step(reentrant(two_heads))
        other = METHODS[name](sgd(two_heads.parameters()), products="difference")
    for _ in range(3):
        opt.step(plain.losses(X))
        other.step(lambda: reentrant(two_heads))
    close = {"rtol": 1e-2, "atol": 1e-3} if name in BY_PRODUCTS else {}
    torch.testing.assert_close(two_heads.trunk.weight, plain.trunk.weight, **close)


@pytest.mark.parametrize("products", ["double_backward", "forward", "difference"])
def test_losses_whose_graph_is_kept_can_be_differentiated_after_backward(two_heads, products):
    params, kept = list(two_heads.parameters()), []
    opt = SingleLoopMGDA(sgd(params), products=products)
    opt.backward(lambda: kept.append(two_heads.losses(X)) or kept[-1], retain_graph=True)
    torch.testing.assert_close(
        reference(kept[0], params), reference(two_heads.losses(X), params), rtol=0, atol=0
    )


@pytest.mark.parametrize("name", METHODS)
def test_a_checkpoint_resumes_bit_for_bit(two_heads, name):
    opt = METHODS[name](torch.optim.Adam(two_heads.parameters(), lr=0.01), weight_smoothing=0.5)
    for _ in range(4):
        opt.step(two_heads.losses(X))
    twin = copy.deepcopy(two_heads)
    other = METHODS[name](torch.optim.Adam(twin.parameters(), lr=0.01), weight_smoothing=0.5)
    other.load_state_dict(copy.deepcopy(opt.state_dict()))
    for _ in range(4):
        opt.step(two_heads.losses(X))
        other.step(twin.losses(X))
    assert opt.memory == other.memory
    for p, q in zip(two_heads.parameters(), twin.parameters(), strict=True):
        assert torch.equal(p, q)
    assert copy.deepcopy(opt).memory == opt.memory


SCALED = METHODS | {"feedback": lambda base: PreferenceFeedback(base, [0.7, 0.3])}


@pytest.mark.parametrize("make", SCALED.values(), ids=list(SCALED))
def test_a_scaler_changes_nothing_and_a_skipped_step_is_not_remembered(two_heads, make):
    plain = copy.deepcopy(two_heads)
    opt, scaled = make(sgd(plain.parameters())), make(sgd(two_heads.parameters()))
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=1000)
    for _ in range(3):
        opt.step(plain.losses(X))
        scaled.backward(two_heads.losses(X), scaler=scaler)
        scaler.step(scaled)
        scaler.update()
    assert opt.memory == scaled.memory
    assert torch.equal(plain.trunk.weight, two_heads.trunk.weight)
    memory = copy.deepcopy(scaled.memory)
    two_heads.trunk.weight.register_hook(lambda g: g * math.inf)
    assert scaled.backward(two_heads.losses(X), scaler=scaler).status == "nonfinite"
    assert scaled.memory == memory


@pytest.mark.parametrize("name", BY_PRODUCTS)
def test_forward_mode_under_a_scaler_is_the_unscaled_step(two_heads, name):
    plain = copy.deepcopy(two_heads)
    opt = METHODS[name](sgd(plain.parameters()), products="forward")
    scaled = METHODS[name](sgd(two_heads.parameters()), products="forward")
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    for _ in range(2):
        opt.step(lambda: plain.losses(X))
        scaled.backward(lambda: two_heads.losses(X), scaler=scaler)
        scaler.step(scaled)
        scaler.update()
    assert opt.memory == scaled.memory


@pytest.mark.parametrize("name", METHODS)
def test_bad_losses_change_nothing(two_heads, name):
    opt = METHODS[name](sgd(two_heads.parameters()))
    opt.step(two_heads.losses(X))
    memory, weight = copy.deepcopy(opt.memory), two_heads.trunk.weight.detach().clone()
    a, b = two_heads.losses(X)
    for bad, message in [
        ([a, b * math.nan], r"losses\[1\] = nan"),
        ([a, b.detach()], r"losses\[1\] = .*no graph"),
        ([], "at least one loss"),
    ]:
        with pytest.raises(ValueError, match=message):
            opt.step(bad)
    torch.autograd.grad(b, list(two_heads.heads[1].parameters()))
    with pytest.raises(ValueError, match="freed"):
        opt.step([a, b])
    assert opt.memory == memory and torch.equal(two_heads.trunk.weight, weight)


def test_bad_options(two_heads):
    base = sgd(two_heads.parameters())
    for make, message in [
        (lambda: SingleLoopMGDA(base, update="newton"), "update = 'newton'"),
        (lambda: SingleLoopMGDA(base, rate=0.0), "rate = 0.0"),
        (lambda: SingleLoopMGDA(base, products="magic"), "products = 'magic'"),
        (lambda: SmoothTchebycheff(base, [1, 1], smoothing=0.0), "smoothing = 0.0"),
        (lambda: MirrorTchebycheff(base, [1, 1], rate=-1.0), "rate = -1.0"),
    ]:
        with pytest.raises(ValueError, match=message):
            make()
    unreached = torch.ones((), requires_grad=True) * 2
    for second in (None, [*two_heads.losses(X), two_heads.losses(X)[0]]):
        with pytest.raises(ValueError, match=r"losses\[2\]: the graph reaches no parameter"):
            SingleLoopMGDA(base).step([*two_heads.losses(X), unreached], second=second)
    with pytest.raises(ValueError, match="needs a closure"):
        SingleLoopMGDA(base, products="forward").step(two_heads.losses(X))


def test_every_and_a_change_of_the_number_of_tasks():
    x = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
    opt = SingleLoopMGDA(sgd([x], 1e-3), every=3)
    weights = [opt.step([x[0] ** 2, x[1] ** 2]).weights[0].item() for _ in range(7)]
    assert weights[0] == weights[1] == weights[2] != weights[3] == weights[5] != weights[6]
    assert opt.step([x[0] ** 2, x[1] ** 2, x.sum() ** 2]).weights.numel() == 3


def test_an_exact_method_with_refreshed_and_averaged_weights_ends_on_the_ray():
    problem, r = ConcaveProblem(n=20), [0.7, 0.3]
    theta = torch.nn.Parameter(problem.start(seed=3))
    opt = EPO(sgd([theta], 0.05), r, every=5, weight_smoothing=0.5)
    for _ in range(300):
        opt.step(problem.losses(theta))
    assert relative_error(problem.losses(theta), problem.point(r)) < 5e-2
