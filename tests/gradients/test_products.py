"""C v without the m gradients: the same numbers as from the explicit Jacobian, on every graph."""

import gc
import weakref

import pytest
import torch
from gradient_cases import CASES, reference
from product_cases import NAMES, Attention, Recurrent, explicit, models
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.checkpoint import checkpoint

from pyfront.gradients.grad_engine import GradEngine
from pyfront.gradients.products import gramian_product
from pyfront.gradients.replay import Replay
from pyfront.gradients.steal_engine import StealEngine

EXACT = ("double_backward", "forward")
REPLAYED = ("forward", "difference")


def flattened(row, params):
    return torch.cat(
        [
            torch.zeros(p.numel()).double() if d is None else d.to_dense().double().reshape(-1)
            for p, d in zip(params, row, strict=True)
        ]
    )


@pytest.mark.parametrize("products", ["double_backward", "forward", "difference"])
@pytest.mark.parametrize("name", NAMES)
def test_the_product_is_that_of_the_explicit_gramian(two_heads, name, products):
    model, closure = models(two_heads)[name]
    params = [p for p in model.parameters() if p.requires_grad]
    replay = Replay(closure)
    losses = replay.first()
    v = torch.tensor([0.7, -0.4, 1.1][: len(losses)], dtype=torch.float64)
    values, direction = explicit(list(losses), params, v)
    before = [p.detach().clone() for p in params]
    product = gramian_product(losses, params, v, products=products, replay=replay)
    size = values.abs().max()
    tolerance = 1e-2 if products == "difference" else 2e-6
    assert (torch.from_numpy(product.values) - values).abs().max() < tolerance * size
    torch.testing.assert_close(
        flattened(product.direction, params), direction, rtol=1e-5, atol=1e-6
    )
    for p, old in zip(params, before, strict=True):
        assert torch.equal(p, old) and p.grad is None
        assert torch.autograd.forward_ad.unpack_dual(p.detach()).tangent is None


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_the_traps_of_gradients_are_those_of_products(case):
    losses, params = case()
    v = torch.linspace(0.3, 1.0, len(losses), dtype=torch.float64)
    values, direction = explicit(losses, params, v)
    product = gramian_product(losses, params, v)
    loose = 1e-2 if params[0].dtype == torch.bfloat16 else 1e-6
    torch.testing.assert_close(torch.from_numpy(product.values), values, rtol=loose, atol=loose)
    torch.testing.assert_close(
        flattened(product.direction, params), direction, rtol=10 * loose, atol=10 * loose
    )
    owners = [
        d.untyped_storage().data_ptr()
        for d in product.direction
        if d is not None and d.layout is torch.strided
    ]
    assert len(set(owners)) == len(owners)


@pytest.mark.parametrize("products", EXACT)
def test_a_product_along_another_direction_is_that_of_two_jacobians(two_heads, products):
    params = list(two_heads.parameters())
    x, y = torch.randn(2, 6, 5)
    v = torch.tensor([0.3, 0.7], dtype=torch.float64)
    first, second = reference(two_heads.losses(x), params), reference(two_heads.losses(y), params)
    along = gramian_product(two_heads.losses(y), params, v).direction
    replay = Replay(lambda: two_heads.losses(x))
    product = gramian_product(
        replay.first(), params, v, products=products, replay=replay, along=along
    )
    expected = first @ (second.T @ v)
    torch.testing.assert_close(torch.from_numpy(product.values), expected, rtol=1e-5, atol=1e-6)


class Twice(torch.autograd.Function):
    """Has a backward that cannot be differentiated, and no forward mode."""

    @staticmethod
    def forward(ctx, x):
        return 2 * x

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, g):
        return 2 * g


class Hidden(Twice):
    """Has a backward that autograd does not see."""

    @staticmethod
    def backward(ctx, g):
        return 2 * g.data


def flash(model, x):
    with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
        return [model.layer.self_attn(x, x, x, need_weights=False)[0].square().mean()]


@pytest.mark.parametrize("function", [Twice, Hidden])
def test_operators_without_what_a_product_needs_are_refused_with_advice(function):
    x = nn.Parameter(torch.tensor([1.0, -2.0]))
    replay = Replay(lambda: [function.apply(x).square().sum() + x.sum(), (3 * x).sum()])
    for products, advice in (("double_backward", "closure"), ("forward", "'difference'")):
        with pytest.raises(RuntimeError, match=f"products='{products}'.*{advice}"):
            gramian_product(replay.first(), [x], [0.5, 0.5], products=products, replay=replay)
    product = gramian_product(replay.first(), [x], [0.5, 0.5], products="difference", replay=replay)
    values, _ = explicit(replay.first(), [x], torch.tensor([0.5, 0.5], dtype=torch.float64))
    assert (torch.from_numpy(product.values) - values).abs().max() < 2e-3 * values.abs().max()


def test_fused_operators_say_what_to_do_instead():
    model, x = Attention(), torch.randn(3, 4, 8)
    params = list(model.parameters())
    with pytest.raises(RuntimeError, match="SDPBackend.MATH"):
        gramian_product(flash(model, x), params, [1.0])
    rnn = Recurrent()
    rnn.mkldnn = True
    replay = Replay(lambda: rnn.losses(torch.arange(12).reshape(3, 4) % 11))
    with pytest.raises(RuntimeError, match="products='forward'.*double_backward"):
        gramian_product(
            replay.first(), list(rnn.parameters()), [1, 1], products="forward", replay=replay
        )


def reentrant(model, x):
    """All of the model inside one checkpoint, so that the graph shows none of its parameters."""
    inside = checkpoint(lambda v: torch.stack(model.losses(v)), x, use_reentrant=True)
    return list(inside.unbind())


def test_a_reentrant_checkpoint_needs_differences_or_another_checkpoint(two_heads):
    before = nn.Linear(5, 5)  # trained too, and outside
    params, x = [*before.parameters(), *two_heads.parameters()], torch.randn(6, 5)
    replay = Replay(lambda: reentrant(two_heads, before(x)))
    for engine in (StealEngine(), GradEngine()):
        with pytest.raises(RuntimeError, match="use_reentrant=False.*'difference'"):
            gramian_product(replay.first(), params, [1, 1], engine=engine)
    options = {"replay": replay, "engine": StealEngine()}
    with pytest.raises(RuntimeError, match="'difference'"):
        gramian_product(replay.first(), params, [1, 1], products="forward", **options)
    product = gramian_product(replay.first(), params, [1, 1], products="difference", **options)
    values, _ = explicit(two_heads.losses(before(x)), params, torch.ones(2, dtype=torch.float64))
    assert (torch.from_numpy(product.values) - values).abs().max() < 1e-2 * values.abs().max()


@pytest.mark.parametrize("products", REPLAYED)
def test_a_closure_that_returns_other_losses_is_refused(two_heads, products):
    params = list(two_heads.parameters())
    calls = []

    def draws():
        calls.append(None)
        return two_heads.losses(torch.full((6, 5), float(len(calls))))

    replay = Replay(draws)
    with pytest.raises(
        ValueError, match=r"closure: losses\[0\] was .* and is .* when called again"
    ):
        gramian_product(replay.first(), params, [1, 1], products=products, replay=replay)
    shorter = Replay(lambda: two_heads.losses(torch.ones(2, 5)) * (2 if not calls.clear() else 1))
    losses = shorter.first()[:2]
    with pytest.raises(ValueError, match="2 losses at first and 4"):
        gramian_product(losses, params, [1, 1], products=products, replay=shorter)
    with pytest.raises(ValueError, match="needs a closure"):
        gramian_product(two_heads.losses(torch.ones(2, 5)), params, [1, 1], products=products)


@pytest.mark.parametrize("products", REPLAYED)
def test_a_closure_that_does_not_compute_its_losses_again_is_refused(two_heads, products):
    losses = two_heads.losses(torch.randn(6, 5))
    message = {"difference": "closure: along d", "forward": "the closure does not compute its loss"}
    with pytest.raises((ValueError, RuntimeError), match=message[products]):
        gramian_product(
            losses,
            list(two_heads.parameters()),
            [1, 1],
            products=products,
            replay=Replay(lambda: losses),
        )


def test_bad_arguments_of_a_product(two_heads):
    params = list(two_heads.parameters())
    with pytest.raises(ValueError, match="products = 'exact'"):
        gramian_product(two_heads.losses(torch.ones(2, 5)), params, [1, 1], products="exact")
    with pytest.raises(ValueError, match=r"v\[1\] = nan"):
        gramian_product(two_heads.losses(torch.ones(2, 5)), params, [1, float("nan")])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_differences_in_half_precision_are_refused(dtype):
    wide, narrow = (nn.Parameter(torch.ones(3, dtype=d)) for d in (torch.float32, dtype))
    for params, losses, name in [
        ([wide], lambda: [wide.sum(), wide.square().sum().to(dtype)], r"losses\[1\]"),
        ([wide, narrow], lambda: [wide.sum() + narrow.sum().float()] * 2, r"params\[1\]"),
    ]:
        replay = Replay(losses)
        with pytest.raises(TypeError, match=rf"products='difference': {name} is {dtype}"):
            gramian_product(replay.first(), params, [1, 1], products="difference", replay=replay)


def test_differences_of_a_network_that_runs_in_half_precision_are_refused(two_heads):
    x = torch.randn(6, 5)

    def closure():
        with torch.autocast("cpu", torch.bfloat16):
            return [loss.float() for loss in two_heads.losses(x)]

    replay, params = Replay(closure), list(two_heads.parameters())
    with pytest.raises(ValueError, match="closure: along d .* half precision"):
        gramian_product(replay.first(), params, [1, 1], products="difference", replay=replay)


@pytest.mark.parametrize("products", ["double_backward", *REPLAYED])
def test_a_graph_that_is_kept_can_be_differentiated_again(two_heads, products):
    params, x = list(two_heads.parameters()), torch.randn(6, 5)
    replay = Replay(lambda: two_heads.losses(x))
    losses = replay.first()
    expected = reference(losses, params)
    gramian_product(
        losses, params, [0.7, -0.4], products=products, replay=replay, retain_graph=True
    )
    assert torch.equal(reference(losses, params), expected)


@pytest.mark.parametrize(
    ("products", "fatal"), [("forward", 2), *(("difference", n) for n in (2, 3, 4))]
)
def test_an_interrupted_closure_leaves_the_parameters_as_they_were(two_heads, products, fatal):
    params, x, calls = list(two_heads.parameters()), torch.randn(6, 5), []

    def interrupted():
        calls.append(None)
        losses = two_heads.losses(x)
        if len(calls) == fatal:
            raise KeyboardInterrupt
        return losses

    replay = Replay(interrupted)
    losses, before = replay.first(), [p.detach().clone() for p in params]
    expected, state = reference(losses, params), torch.get_rng_state()
    options = {"products": products, "replay": replay, "retain_graph": True}
    with pytest.raises(KeyboardInterrupt):
        gramian_product(losses, params, [1, 1], **options)
    for p, old in zip(params, before, strict=True):
        assert torch.equal(p, old)
        assert torch.autograd.forward_ad.unpack_dual(p.detach()).tangent is None
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(reference(losses, params), expected)  # and the graph is whole


@pytest.mark.parametrize("keep", [False, True])
def test_the_graph_is_freed_unless_it_is_kept(two_heads, keep):
    """Held losses must not keep the activations of the last step alive during the next."""
    params = list(two_heads.parameters())
    z = two_heads.trunk(torch.randn(6, 5)).sigmoid()
    alive = weakref.ref(z.untyped_storage())
    losses = [head(z).square().mean() for head in two_heads.heads]
    del z
    gramian_product(losses, params, [0.5, 0.5], retain_graph=keep)
    gc.collect()
    if keep:
        torch.autograd.grad(losses[0], params, allow_unused=True)
    else:
        with pytest.raises(RuntimeError, match="second time"):
            torch.autograd.grad(losses[0], params, allow_unused=True)
    assert keep or alive() is None


def test_bfloat16_losses_take_weights_in_full_precision():
    x = nn.Parameter(torch.tensor([1.0, 1.0]))
    product = gramian_product([x[0].bfloat16() * 1, x[1] * 1], [x], [0.7, 1e-9])
    assert product.direction[0].tolist() == pytest.approx([0.7, 1e-9], rel=4e-3)
    assert product.values[0] == pytest.approx(0.7, rel=4e-3)
