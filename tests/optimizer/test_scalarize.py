"""One scalar for loops that call backward themselves: its gradient is d, bit for bit."""

import copy

import pytest
import torch
from scalarize_cases import METHODS, X, adam, gradients, same

import pyfront
from pyfront import EPO, MGDA

OPTIONS = {
    "sum": {"scale": "sum"},
    "smoothed": {"weight_smoothing": 0.5},
    "every": {"every": 2},
    "own": {"task_gradients": "own"},
    "shared": {"gramian_over": "shared"},
    "own_shared": {"task_gradients": "own", "gramian_over": "shared"},
    "steal": {"engine": "steal"},
}


def both_ways(model, make, steps=4, **arguments):
    """Train by backward(losses) and by scalarize(losses).backward(); compare every step."""
    other = copy.deepcopy(model)
    opt, scalar_opt = make(adam(model)), make(adam(other))
    for _ in range(steps):
        report = opt.backward(model.losses(X), **{k: f(model) for k, f in arguments.items()})
        scalar_opt.zero_grad()
        losses = other.losses(X)
        scalar = scalar_opt.scalarize(losses, **{k: f(other) for k, f in arguments.items()})
        scalar.backward()
        assert same(gradients(model), gradients(other))
        found = scalar_opt.report
        assert torch.equal(report.weights, found.weights) and report.status == found.status
        fixed = arguments["fixed"](other).item() if "fixed" in arguments else 0.0
        expected = (found.weights @ found.losses).item() + fixed
        assert scalar.item() == pytest.approx(expected, rel=1e-6)
        opt.step()
        scalar_opt.step()
    assert opt.memory == scalar_opt.memory
    assert same(list(model.parameters()), list(other.parameters()))


@pytest.mark.parametrize("name", METHODS)
def test_the_gradient_is_the_direction(two_heads, name):
    both_ways(two_heads, METHODS[name])


def test_every_method_is_tested():
    classes = {
        getattr(pyfront, name)
        for name in pyfront.__all__
        if isinstance(getattr(pyfront, name), type)
        and issubclass(getattr(pyfront, name), pyfront.MultiTaskOptimizer)
    } - {pyfront.MultiTaskOptimizer}
    x = torch.nn.Parameter(torch.ones(2))
    assert {type(make(torch.optim.SGD([x], lr=0.1))) for make in METHODS.values()} == classes


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("name", ["epo", "MGDA", "uncertainty", "SingleLoopMGDA", "ferero"])
def test_options_change_nothing(two_heads, name, option):
    both_ways(two_heads, lambda base: METHODS[name](base, **OPTIONS[option]))


@pytest.mark.parametrize("name", ["epo", "uncertainty", "SingleLoopMGDA"])
def test_a_fixed_loss_is_in_value_and_gradient(two_heads, name):
    def penalty(model):
        return 0.1 * sum((p**2).sum() for p in model.parameters())

    both_ways(two_heads, METHODS[name], fixed=penalty)


@pytest.mark.parametrize("bound", [False, True])
def test_features_split_the_passes(two_heads, bound):
    def features(model):
        model.z = torch.tanh(model.trunk(X))
        return model.z

    class Cut(type(two_heads)):
        def losses(self, x):
            features(self)
            return [(head(self.z) ** 2).mean() + 0.1 for head in self.heads]

    two_heads.__class__ = Cut
    both_ways(
        two_heads, lambda base: EPO(base, [0.7, 0.3], upper_bound=bound), features=lambda m: m.z
    )


def test_a_preference_of_one_call(two_heads):
    both_ways(two_heads, METHODS["epo"], preference=lambda _: [0.2, 0.8])


def test_reference_vectors_of_one_call(two_heads):
    vectors = [[0.2, 1.0], [1.0, 0.3], [1.0, 0.2]]
    both_ways(two_heads, METHODS["pareto_mtl"], reference_vectors=lambda _: vectors)
    opt = METHODS["pareto_mtl"](adam(two_heads))
    with pytest.raises(TypeError, match="preference: ParetoMTL takes none"):
        opt.scalarize(two_heads.losses(X), preference=[0.5, 0.5])


# ---------------------------------------------------------------- what loops do to their scalar


def test_factors_on_the_scalar_are_factors_on_the_direction(two_heads):
    opt = EPO(adam(two_heads), [0.7, 0.3])
    opt.backward(two_heads.losses(X))
    d = gradients(two_heads)
    opt.zero_grad()
    (opt.scalarize(two_heads.losses(X)) / 4 * 1024).backward()
    assert same(gradients(two_heads), [256 * g for g in d])


def test_scalars_before_a_step_add_their_directions(two_heads):
    opt = EPO(adam(two_heads), [0.7, 0.3])
    parts = []
    for x in (X[:3], X[3:]):
        opt.backward(two_heads.losses(x))
        parts.append(gradients(two_heads))
        opt.zero_grad()
    for x in (X[:3], X[3:]):
        opt.scalarize(two_heads.losses(x)).backward()
    assert same(gradients(two_heads), [a + b for a, b in zip(*parts, strict=True)])
    opt.zero_grad()
    sum(opt.scalarize(two_heads.losses(x)) for x in (X[:3], X[3:])).backward()
    assert same(gradients(two_heads), [a + b for a, b in zip(*parts, strict=True)])


def test_collected_task_gradients_go_into_one_scalar(two_heads):
    opt = EPO(adam(two_heads), [0.7, 0.3])
    opt.accumulate(two_heads.losses(X[:3]))
    opt.backward(two_heads.losses(X[3:]))
    d = gradients(two_heads)
    opt.zero_grad()
    opt.accumulate(two_heads.losses(X[:3]))
    scalar = opt.scalarize(two_heads.losses(X[3:]))
    scalar.backward()
    assert same(gradients(two_heads), d)
    assert scalar.item() == pytest.approx((opt.report.weights @ opt.report.losses).item())


@pytest.mark.parametrize("name", ["epo", "uncertainty", "SingleLoopMGDA"])
@pytest.mark.parametrize("given", [True, False])
def test_a_scaler_scales_the_scalar(two_heads, name, given):
    plain = copy.deepcopy(two_heads)
    opt, scaled = METHODS[name](adam(plain)), METHODS[name](adam(two_heads))
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**16)
    for _ in range(3):
        opt.step(plain.losses(X))
        scaled.zero_grad()
        scalar = scaled.scalarize(two_heads.losses(X), scaler=scaler if given else None)
        scaler.scale(scalar).backward()
        scaler.step(scaled)
        scaler.update()
    for p, q in zip(plain.parameters(), two_heads.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-6, atol=1e-7)


def test_a_scale_beyond_16_bits_does_not_overflow():
    x = torch.nn.Parameter(torch.ones(4, dtype=torch.float16))
    opt = MGDA(torch.optim.SGD([x], lr=0.1))
    losses = [(x * 1e-4).float().sum(), (2e-4 * x).float().sum()]
    (opt.scalarize(losses) * 2.0**20).backward()
    assert x.grad.dtype is torch.float16 and torch.isfinite(x.grad).all() and x.grad.min() > 50


def test_nonfinite_losses_of_a_scaler_make_the_gradient_nan(two_heads):
    opt = EPO(adam(two_heads), [0.7, 0.3])
    scaler = torch.amp.GradScaler("cpu")
    losses = two_heads.losses(X)
    scalar = opt.scalarize([losses[0] * float("inf"), losses[1]], scaler=scaler)
    assert scalar.isnan() and opt.report.status == "nonfinite"
    scaler.scale(scalar).backward()
    assert two_heads.trunk.weight.grad.isnan().any()
    before = copy.deepcopy(two_heads.state_dict())
    scaler.step(opt)
    assert all(torch.equal(v, before[k]) for k, v in two_heads.state_dict().items())


def test_gradients_that_are_there_stay_until_the_scalar_adds_to_them(two_heads):
    opt = EPO(adam(two_heads), [0.7, 0.3])
    ours = [torch.ones_like(p) for p in two_heads.parameters()]
    for p, g in zip(two_heads.parameters(), ours, strict=True):
        p.grad = g
    scalar = opt.scalarize(two_heads.losses(X))
    assert all(
        p.grad is g and g.eq(1).all() for p, g in zip(two_heads.parameters(), ours, strict=True)
    )
    scalar.backward()
    opt.step()
    assert not two_heads.trunk.weight.grad.eq(1).all()


def test_the_direction_is_taken_over_and_not_copied(two_heads):
    opt = EPO(adam(two_heads), [0.7, 0.3])
    scalar = opt.scalarize(two_heads.losses(X))
    held = {t.data_ptr() for t in scalar.grad_fn.saved_tensors}
    scalar.backward()
    assert {p.grad.data_ptr() for p in two_heads.parameters()} == held


def test_frozen_and_unused_parameters_get_nothing(two_heads):
    two_heads.trunk.weight.requires_grad_(False)
    unused = torch.nn.Parameter(torch.ones(3))
    opt = EPO(torch.optim.Adam([*two_heads.parameters(), unused], lr=0.01), [0.7, 0.3])
    opt.scalarize(two_heads.losses(X)).backward()
    assert unused.grad is None and two_heads.trunk.weight.grad is None
    assert two_heads.trunk.bias.grad is not None
    opt.step()


def test_a_reentrant_checkpoint_is_trained(two_heads):
    from torch.utils.checkpoint import checkpoint

    class Checkpointed(type(two_heads)):
        def losses(self, x):
            z = checkpoint(
                lambda x: torch.tanh(self.trunk(x)), x.clone().requires_grad_(), use_reentrant=True
            )
            return [(head(z) ** 2).mean() for head in self.heads]

    two_heads.__class__ = Checkpointed
    both_ways(two_heads, METHODS["epo"])


@pytest.mark.parametrize("name", ["epo", "MGDA", "SingleLoopMGDA"])
def test_hooks_on_parameters_run_once(two_heads, name):
    opt = METHODS[name](adam(two_heads))
    opt.backward(two_heads.losses(X))
    d = gradients(two_heads)
    opt = METHODS[name](adam(two_heads))
    opt.zero_grad()
    calls = []
    two_heads.trunk.bias.register_hook(lambda g: calls.append(1) or 2 * g)
    scalar = opt.scalarize(two_heads.losses(X))
    before = len(calls)
    scalar.backward()
    assert len(calls) == before + 1
    # weights differ by the hook's factor, and the sum's gradient is what the hook makes of it
    w = opt.report.weights.float()
    losses = two_heads.losses(X)
    (g,) = torch.autograd.grad(w @ torch.stack(losses), [two_heads.heads[0].weight])
    torch.testing.assert_close(two_heads.heads[0].weight.grad, g)
    assert len(d) == 6


def test_hooks_and_own_gradients_are_refused(two_heads):
    two_heads.trunk.bias.register_hook(lambda g: g)
    opt = EPO(adam(two_heads), [0.7, 0.3], task_gradients="own")
    with pytest.raises(ValueError, match="tensor hooks on parameters would run twice"):
        opt.scalarize(two_heads.losses(X))


def test_post_accumulate_hooks_see_the_direction(two_heads):
    seen = []
    two_heads.trunk.bias.register_post_accumulate_grad_hook(lambda p: seen.append(p.grad.clone()))
    opt = EPO(adam(two_heads), [0.7, 0.3])
    opt.scalarize(two_heads.losses(X)).backward()
    assert len(seen) == 1 and torch.equal(seen[0], two_heads.trunk.bias.grad)


def test_compiled_models_and_steps(two_heads):
    other = copy.deepcopy(two_heads)
    compiled = torch.compile(other, backend="aot_eager")
    opt, opt_compiled = (
        EPO(torch.optim.SGD(m.parameters(), lr=0.1), [0.7, 0.3]) for m in (two_heads, other)
    )

    @torch.compile(backend="aot_eager")
    def step(x):
        opt_compiled.zero_grad()
        losses = [(y**2).mean() for y in compiled(x)]
        opt_compiled.scalarize(losses).backward()
        opt_compiled.step()

    for _ in range(2):
        opt.step([(y**2).mean() for y in two_heads(X)])
        step(X)
    for p, q in zip(two_heads.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-6, atol=1e-7)


# -------------------------------------------------------------------------------- closures of loops


@pytest.mark.parametrize("returned", ["loss", "item", "detached", "none"])
@pytest.mark.parametrize("name", ["epo", "uncertainty", "GradNorm", "SingleLoopMGDA"])
def test_a_closure_that_called_backward_makes_the_step(two_heads, name, returned):
    other = copy.deepcopy(two_heads)
    opt, closed = METHODS[name](adam(two_heads)), METHODS[name](adam(other))

    def closure():  # as Lightning's: the gradients are cleared between loss and backward
        loss = closed.scalarize(other.losses(X))
        closed.zero_grad()
        loss.backward()
        values = {"loss": loss, "item": loss.item(), "detached": loss.detach(), "none": None}
        return values[returned]

    for _ in range(3):
        opt.step(two_heads.losses(X))
        assert closed.step(closure) is None
    assert same(list(two_heads.parameters()), list(other.parameters()))
    assert opt.memory == closed.memory


def test_what_waits_is_no_part_of_copies_and_checkpoints(two_heads):
    opt = EPO(adam(two_heads), [0.7, 0.3])
    opt.scalarize(two_heads.losses(X))
    copy.deepcopy(opt).step()
