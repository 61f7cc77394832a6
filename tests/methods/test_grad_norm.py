"""GradNorm against the paper's algorithm written with autograd and a second differentiation."""

import json
import math

import pytest
import torch

from pyfront import MGDA, GradNorm

TASKS = [1, 2, 3, 5]
X = torch.linspace(-1, 1, 40, dtype=torch.float64).reshape(8, 5)


class Net(torch.nn.Module):
    """Two shared layers and m heads."""

    def __init__(self, num_tasks):
        super().__init__()
        generator = torch.Generator().manual_seed(num_tasks)
        self.trunk = torch.nn.Sequential(
            torch.nn.Linear(5, 6), torch.nn.Tanh(), torch.nn.Linear(6, 4)
        ).double()
        self.heads = torch.nn.ModuleList([torch.nn.Linear(4, 1) for _ in range(num_tasks)]).double()
        with torch.no_grad():
            for p in self.parameters():
                p.copy_(0.5 * torch.randn(p.shape, generator=generator, dtype=torch.float64))

    def losses(self):
        z = torch.tanh(self.trunk(X))
        return [
            3.0**j * ((head(z) - torch.cos(X.sum(1, keepdim=True) * (j + 1))) ** 2).mean()
            for j, head in enumerate(self.heads)
        ]


def algorithm_1(net, alpha, steps, rate, w_rate, layer, initial=None):
    """The paper's loop: L_grad is differentiated by autograd through the gradient norms."""
    m = len(net.heads)
    w = torch.ones(m, dtype=torch.float64, requires_grad=True)
    base = torch.optim.SGD(net.parameters(), lr=rate)
    trainer, applied = torch.optim.Adam([w], lr=w_rate), []
    for _ in range(steps):
        losses = torch.stack(net.losses())
        initial = losses.detach() if initial is None else torch.as_tensor(initial).double()
        norms = []
        for j in range(m):
            gradients = torch.autograd.grad(
                w[j] * losses[j], layer(net), retain_graph=True, create_graph=True
            )
            norms.append(torch.cat([g.reshape(-1) for g in gradients]).norm())
        norms = torch.stack(norms)
        ratios = losses.detach() / initial
        target = norms.mean().detach() * (ratios / ratios.mean()) ** alpha
        trainer.zero_grad()
        w.grad = torch.autograd.grad((norms - target).abs().sum(), w, retain_graph=True)[0]
        applied.append(w.detach().clone())
        base.zero_grad()
        for p, g in zip(
            net.parameters(),
            torch.autograd.grad((applied[-1] * losses).sum(), list(net.parameters())),
            strict=True,
        ):
            p.grad = g
        trainer.step()
        base.step()
        with torch.no_grad():
            w.mul_(m / w.sum())
    return applied


def last_layer(net):
    return list(net.trunk[2].parameters())


def make(net, rate=0.01, **options):
    options = {"gramian_over": last_layer(net), **options}
    return GradNorm(torch.optim.SGD(net.parameters(), lr=rate), **options)


@pytest.mark.parametrize("num_tasks", TASKS)
@pytest.mark.parametrize("alpha", [0.0, 0.12, 1.5])
def test_it_is_the_papers_algorithm(num_tasks, alpha):
    net, twin = Net(num_tasks), Net(num_tasks)
    opt = make(net, alpha=alpha)
    weights = [opt.step(net.losses()).weights for _ in range(25)]
    expected = algorithm_1(twin, alpha, 25, 0.01, 0.025, last_layer)
    torch.testing.assert_close(weights, expected, rtol=1e-9, atol=1e-11)
    for p, q in zip(net.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-9, atol=1e-11)
    assert all(math.isclose(w.sum().item(), num_tasks, rel_tol=1e-12) for w in weights)
    if num_tasks > 1:
        assert max((w - 1).abs().max() for w in weights) > 0.06  # more than two steps of Adam


def test_named_shared_and_all_parameters_differ_as_they_should():
    for over, layer in (
        ("shared", lambda net: list(net.trunk.parameters())),
        ([0, 2], lambda net: [net.trunk[0].weight, net.trunk[2].weight]),
    ):
        net, twin = Net(3), Net(3)
        names = over if isinstance(over, str) else iter([net.trunk[i].weight for i in over])
        opt = make(net, gramian_over=names)
        weights = [opt.step(net.losses()).weights for _ in range(10)]
        expected = algorithm_1(twin, 1.5, 10, 0.01, 0.025, layer)
        torch.testing.assert_close(weights, expected, rtol=1e-9, atol=1e-11)
    net = Net(3)
    assert GradNorm(torch.optim.SGD(net.parameters(), lr=0.1)).gramian_over == "shared"


def test_initial_losses_can_be_given():
    net, twin = Net(2), Net(2)
    opt = make(net, initial_losses=[1.0, 20.0])
    weights = [opt.step(net.losses()).weights for _ in range(10)]
    expected = algorithm_1(twin, 1.5, 10, 0.01, 0.025, last_layer, initial=[1.0, 20.0])
    torch.testing.assert_close(weights, expected, rtol=1e-9, atol=1e-11)


def test_with_alpha_zero_the_weighted_norms_become_equal():
    net = Net(3)
    opt = make(net, rate=0.0, alpha=0.0, lr=0.005)
    for _ in range(600):
        report = opt.step(net.losses())
    norms = report.weights * report.gramian.diagonal().sqrt()
    assert norms.max() / norms.min() < 1.05
    plain = report.gramian.diagonal().sqrt()
    assert plain.max() / plain.min() > 2


def test_weights_stay_positive_and_finite_on_degenerate_losses():
    x = torch.nn.Parameter(torch.tensor([1.0, 2.0], dtype=torch.float64))
    opt = GradNorm(torch.optim.SGD([x], lr=0.0), gramian_over="all", lr=5.0)
    for step in range(20):
        factor = 0.0 if step else 1.0
        losses = [x[0] ** 2, 1e-150 * x[1] ** 2, factor * x.sum(), 1e80 * x[0] ** 2]
        weights = opt.step(losses).weights
        assert weights.isfinite().all() and (weights > 0).all()
    zero = GradNorm(torch.optim.SGD([x], lr=0.0), gramian_over="all", initial_losses=[1, 1])
    for _ in range(3):
        assert zero.step([0 * x.sum(), 0 * x.sum()]).weights.tolist() == [1.0, 1.0]


def test_backward_alone_trains_nothing():
    net = Net(2)
    opt = make(net)
    first = opt.backward(net.losses())
    second = opt.backward(net.losses())
    assert torch.equal(first.weights, second.weights) and opt.task_weights is None
    assert "initial_losses" not in opt.memory
    opt.step()
    trained = opt.task_weights
    assert (trained != 1).all()
    opt.step()
    assert torch.equal(opt.task_weights, trained)
    assert torch.equal(opt.backward(net.losses()).weights, trained)


@pytest.mark.parametrize("where", ["first", "later"])
def test_a_step_that_the_scaler_skips_trains_nothing(where):
    x = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
    opt = GradNorm(torch.optim.SGD([x], lr=0.01))
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)

    def step(factor):
        losses = [(x**2).sum(), factor * (x[0] - 3) ** 2]
        report = opt.backward(losses, scaler=scaler)
        scaler.step(opt)
        scaler.update()
        return report

    if where == "later":
        step(1.0)
    before = {key: opt.memory.get(key) for key in ("initial_losses", "task_weights", "moments")}
    assert step(math.inf).status == "nonfinite"
    assert {key: opt.memory.get(key) for key in before} == before
    assert step(1.0).status == "ok"
    assert opt.memory["moments"]["steps"] == [2 if where == "later" else 1] * 2


def test_a_direction_that_overflows_trains_nothing():
    x = torch.nn.Parameter(torch.ones(1))
    opt = GradNorm(torch.optim.SGD([x], lr=0.01), weight_smoothing=0.5)
    scaler = torch.amp.GradScaler("cpu", init_scale=1.0)
    report = opt.backward([2e38 * x.sum(), 3e38 * x.sum()], scaler=scaler)
    assert report.status == "nonfinite"  # each gradient fits in float32, their sum does not
    scaler.step(opt)
    assert opt.task_weights is None and "weights" not in opt.memory and x.item() == 1.0


def test_every_makes_one_backward_pass_between_and_trains_when_it_decides():
    net = Net(2)
    opt = make(net, every=3)
    calls = []
    net.trunk[0].weight.register_hook(lambda g: calls.append(g))
    counts, weights = [], []
    for _ in range(6):
        weights.append(opt.step(net.losses()).weights)
        counts.append(len(calls))
    assert counts == [2, 3, 4, 6, 7, 8]
    assert torch.equal(weights[0], weights[2]) and torch.equal(weights[3], weights[5])
    assert not torch.equal(weights[2], weights[3]) and opt.memory["moments"]["steps"] == [2, 2]


def test_micro_batches_smoothing_and_a_schedule():
    net, twin = Net(2), Net(2)
    whole, parts = (
        make(net, lr=None, weight_smoothing=0.5),
        make(twin, lr=None, weight_smoothing=0.5),
    )
    schedules = [torch.optim.lr_scheduler.StepLR(opt, 2, gamma=0.1) for opt in (whole, parts)]
    for _ in range(4):
        whole.step(net.losses())
        parts.accumulate([0.25 * loss for loss in twin.losses()])
        parts.step([0.75 * loss for loss in twin.losses()])
        for schedule in schedules:
            schedule.step()
    torch.testing.assert_close(whole.task_weights, parts.task_weights)
    # Adam's steps are as long as its rate: 2 of 0.01 and 2 of 0.001
    assert abs((whole.task_weights - 1).abs().max().item() - 0.022) < 1e-3


def test_bitwise_resume():
    net, twin = Net(3), Net(3)
    opt = make(net)
    for _ in range(3):
        opt.step(net.losses())
    twin.load_state_dict(net.state_dict())
    fresh = make(twin)
    fresh.load_state_dict(json.loads(json.dumps(opt.state_dict())))
    for _ in range(3):
        a, b = opt.step(net.losses()), fresh.step(twin.losses())
        assert torch.equal(a.weights, b.weights)
    assert fresh.memory == opt.memory


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"alpha": -0.1}, ValueError, "alpha = -0.1"),
        ({"alpha": math.inf}, ValueError, "alpha = inf"),
        ({"alpha": math.nan}, ValueError, "alpha = nan"),
        ({"lr": -1}, ValueError, "lr = -1"),
        ({"initial_losses": [1.0, 0.0]}, ValueError, r"initial_losses\[1\] = 0"),
        ({"initial_losses": [math.nan, 1.0]}, ValueError, r"initial_losses\[0\] = nan"),
        ({"initial_losses": [[1.0]]}, ValueError, "initial_losses"),
        ({"preference": [1, 1]}, TypeError, "GradNorm takes none"),
    ],
)
def test_bad_arguments(options, error, message):
    with pytest.raises(error, match=message):
        make(Net(2), **options)


def test_bad_losses_change_nothing():
    net = Net(2)
    opt = make(net)
    with pytest.raises(ValueError, match=r"losses\[1\] = 0: .*initial_losses="):
        opt.step([net.losses()[0], net.losses()[1] * 0])
    with pytest.raises(ValueError, match="expected 3 as at first, got 2"):
        make(net, initial_losses=[1, 1, 1]).step(net.losses())
    opt = make(net)
    opt.step(net.losses())
    memory = json.dumps(opt.memory)
    cases = [
        ([*net.losses(), net.losses()[0]], "expected 2 as at first, got 3"),
        ([net.losses()[0], net.losses()[1] - 100], r"losses\[1\] = -.*first ones"),
        ([net.losses()[0] * math.inf, net.losses()[1]], r"losses\[0\] = inf"),
    ]
    for losses, message in cases:
        with pytest.raises(ValueError, match=message):
            opt.step(losses)
    assert json.dumps(opt.memory) == memory
    with pytest.raises(ValueError, match="saved by GradNorm, not by MGDA"):
        MGDA(torch.optim.SGD(net.parameters(), lr=0.1)).load_state_dict(opt.state_dict())


def test_the_hint_for_a_negative_loss_is_one_that_helps():
    net = Net(2)
    with pytest.raises(ValueError, match=r"losses\[1\] = -.*change their sign") as error:
        make(net).step([net.losses()[0], net.losses()[1] - 100])
    assert "initial_losses" not in str(error.value)
