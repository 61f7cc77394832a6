"""Methods that follow their weights by one product a step, or by the losses alone."""

import copy
import math

import pytest
import torch
from gradient_cases import reference
from torch.utils.checkpoint import checkpoint

from pyfront import (
    EPO,
    FERERO,
    MirrorTchebycheff,
    PreferenceFeedback,
    SingleLoopMGDA,
    SmoothTchebycheff,
)
from pyfront.backend.graph import share_a_graph
from pyfront.functional import min_norm_weights
from pyfront.problems import ConcaveProblem, QuadraticProblem

X = torch.linspace(-1, 1, 30).reshape(6, 5)
METHODS = {
    "mgda": lambda base, **options: SingleLoopMGDA(base, **options),
    "frank-wolfe": lambda base, **options: SingleLoopMGDA(base, update="frank_wolfe", **options),
    "ferero": lambda base, **options: FERERO(base, [0.7, 0.3], **options),
    "smooth": lambda base, **options: SmoothTchebycheff(base, [0.7, 0.3], **options),
    "mirror": lambda base, **options: MirrorTchebycheff(base, [0.7, 0.3], **options),
}
BY_PRODUCTS = ["mgda", "frank-wolfe", "ferero"]


def sgd(params, lr=0.1):
    return torch.optim.SGD(list(params), lr=lr)


def relative_error(losses, target):
    return ((losses.detach() - target) / target).abs().max().item()


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


class _Halves(torch.nn.Module):
    """Two tasks on the halves of a batch that one forward pass has seen."""

    def __init__(self):
        super().__init__()
        self.net = torch.nn.Sequential(
            torch.nn.Linear(5, 7), torch.nn.Tanh(), torch.nn.Linear(7, 2)
        )

    def losses(self, x, together):
        halves = self.net(x).chunk(2) if together else map(self.net, x.chunk(2))
        return [list(y.square().mean(dim=0)) for y in halves]


def test_two_batches_give_the_product_of_two_jacobians(two_heads):
    opt = SingleLoopMGDA(sgd(two_heads.parameters(), 0.0))
    params = list(two_heads.parameters())
    x, y = torch.randn(2, 6, 5)
    seen = []
    opt.observe = lambda report, product, r: (seen.append(product), report)[1]
    opt.step(two_heads.losses(x), second=two_heads.losses(y))
    first, second = reference(two_heads.losses(x), params), reference(two_heads.losses(y), params)
    w = torch.tensor([0.5, 0.5], dtype=torch.float64)
    torch.testing.assert_close(
        torch.from_numpy(seen[0]), first @ (second.T @ w), rtol=1e-5, atol=1e-7
    )
    flat = torch.cat([p.grad.double().reshape(-1) for p in params])
    torch.testing.assert_close(flat, 0.5 * (first + second).T @ w, rtol=1e-5, atol=1e-6)


def test_one_batch_blames_the_noisy_task_and_two_do_not():
    """Mean gradients e₁, e₂: w = (½, ½). Noise on the first adds its variance to C₁₁ alone."""
    means = {}
    for batches in (1, 2):
        generator = torch.Generator().manual_seed(0)
        x = torch.nn.Parameter(torch.zeros(12, dtype=torch.float64))
        opt = SingleLoopMGDA(sgd([x], 0.0), rate=0.1)

        def losses(x=x, generator=generator):
            noise = 0.7 * torch.randn(12, generator=generator, dtype=torch.float64)
            return [x[0] + noise @ x, x[1] * 1]

        total = torch.zeros(2, dtype=torch.float64)
        for step in range(400):
            second = losses() if batches == 2 else None
            weights = opt.step(losses(), second=second).weights
            total += weights if step >= 200 else 0
        means[batches] = (total / 200)[0].item()
    assert means[1] < 0.25 and abs(means[2] - 0.5) < 0.12


@pytest.mark.parametrize("every", [1, 2])
@pytest.mark.parametrize("scaled", [False, True])
def test_a_fixed_loss_has_weight_one_beside_two_batches(two_heads, every, scaled):
    params = list(two_heads.parameters())
    opt = SingleLoopMGDA(sgd(params, 0.0), every=every)
    scaler = torch.amp.GradScaler("cpu", init_scale=64.0) if scaled else None
    x, y = torch.randn(2, 6, 5)
    for _ in range(every):
        fixed = two_heads.trunk.weight.square().sum()
        second = two_heads.losses(y)
        report = opt.backward(two_heads.losses(x), second=second, fixed=fixed, scaler=scaler)
    both = [torch.stack(two_heads.losses(batch)).double() @ report.weights for batch in (x, y)]
    total = 0.5 * sum(both) + two_heads.trunk.weight.square().sum()
    for p, g in zip(params, torch.autograd.grad(total, params), strict=True):
        torch.testing.assert_close(p.grad / (64.0 if scaled else 1.0), g, rtol=1e-5, atol=1e-6)


def test_a_second_batch_beside_a_closure_is_not_forgotten(two_heads):
    ends = []
    x, y = torch.randn(2, 6, 5)
    for closure in (False, True):
        model = copy.deepcopy(two_heads)
        opt = SingleLoopMGDA(sgd(model.parameters()))
        losses = (lambda model=model: model.losses(x)) if closure else model.losses(x)
        opt.step(losses, second=model.losses(y))
        ends.append(model.trunk.weight)
    assert torch.equal(*ends)


@pytest.mark.parametrize("options", [{}, {"retain_graph": True}])
def test_two_halves_of_one_forward_pass_are_two_batches(options):
    model = _Halves()
    params, x = list(model.parameters()), torch.randn(8, 5)
    found = []
    for together in (False, True):
        opt = SingleLoopMGDA(sgd(params))
        losses, second = model.losses(x, together)
        fixed = losses[0] + second[1]
        opt.backward(losses, second=second, fixed=fixed, **options)
        found.append(([p.grad.clone() for p in params], opt.memory["simplex"]))
        if options:
            for kept in (losses, second):
                assert torch.autograd.grad(kept[0], params, retain_graph=True)
    for p, q in zip(found[0][0], found[1][0], strict=True):
        torch.testing.assert_close(p, q)
    assert found[0][1] == pytest.approx(found[1][1], rel=1e-5)


def test_the_graph_of_a_second_batch_of_its_own_is_freed_at_once():
    model = _Halves()
    params, x = list(model.parameters()), torch.randn(8, 5)
    losses, second = model.losses(x, False)
    assert share_a_graph(*model.losses(x, True)) and not share_a_graph(losses, second)
    SingleLoopMGDA(sgd(params)).backward(losses, second=second)
    with pytest.raises(RuntimeError, match="second time"):
        torch.autograd.grad(second[0], params)


def test_an_infinite_second_batch_skips_the_step_under_a_scaler(two_heads):
    opt = SingleLoopMGDA(sgd(two_heads.parameters()))
    opt.step(two_heads.losses(X), second=two_heads.losses(X))
    memory = copy.deepcopy(opt.memory)
    scaler = torch.amp.GradScaler("cpu", init_scale=64.0)
    a, b = two_heads.losses(X)
    report = opt.backward(two_heads.losses(X), second=[a, b * math.inf], scaler=scaler)
    assert report.status == "nonfinite" and opt.memory == memory
    assert two_heads.trunk.weight.grad.isnan().all()


def test_bad_second_batches(two_heads):
    base = sgd(two_heads.parameters())
    opt = SingleLoopMGDA(base)
    a, b = two_heads.losses(X)
    with pytest.raises(ValueError, match="second: expected 2 losses, got 1"):
        opt.step(two_heads.losses(X), second=[a])
    with pytest.raises(ValueError, match=r"second\[1\] = nan"):
        opt.step(two_heads.losses(X), second=[a, b * math.nan])
    with pytest.raises(ValueError, match="second: without losses"):
        opt.step(second=[a, b])
    with pytest.raises(ValueError, match="second: not with"):
        SingleLoopMGDA(base, task_gradients="own").step(two_heads.losses(X), second=[a, b])
    for over in ("shared", list(two_heads.trunk.parameters())):
        with pytest.raises(ValueError, match="second: needs gramian_over='all'"):
            opt = SingleLoopMGDA(base, gramian_over=over)
            opt.step(two_heads.losses(X), second=[a, b])
    with pytest.raises(ValueError, match="second: needs products='double_backward'"):
        SingleLoopMGDA(base, products="forward").step(lambda: two_heads.losses(X), second=[a, b])
    assert all(p.grad is None for p in two_heads.parameters())


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
