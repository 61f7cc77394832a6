"""What a recorded backward pass keeps when only its derivative in u is wanted."""

import gc
import weakref

import pytest
import torch
from product_cases import NAMES, explicit, models
from torch import nn

from pyfront.gradients import linear_record as module
from pyfront.gradients.linear_record import linear_record
from pyfront.gradients.products import gramian_product


@pytest.fixture
def everything_is_large(monkeypatch):
    monkeypatch.setattr(module, "SMALL", 0)


def kept_by(losses, params, u):
    """Pairs of what autograd saves of d(u) and what is kept of it."""
    pairs = []

    def noted(pack, unpack):
        def pack_and_note(saved):
            packed = pack(saved)
            pairs.append((saved.detach(), packed))
            return packed

        return torch.autograd.graph.saved_tensors_hooks(pack_and_note, unpack)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "saved_tensors_hooks", noted)
        with linear_record(u):
            torch.autograd.grad(losses, params, u.unbind(), create_graph=True)
    return pairs


@pytest.mark.parametrize("name", NAMES)
def test_products_do_not_read_what_is_left_out(two_heads, everything_is_large, name):
    model, closure = models(two_heads)[name]
    params = [p for p in model.parameters() if p.requires_grad]
    torch.manual_seed(1)
    losses = list(closure())
    v = torch.tensor([0.7, -0.4, 1.1][: len(losses)], dtype=torch.float64)
    values, _ = explicit(losses, params, v)
    product = gramian_product(losses, params, v)
    error = (torch.from_numpy(product.values) - values).abs().max()
    assert error < 2e-6 * values.abs().max()


def test_no_memory_is_held_for_the_gradients_of_activations(everything_is_large):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 40), nn.Tanh(), nn.Linear(40, 40), nn.Tanh(), nn.Linear(40, 2))
    u = torch.tensor([0.3, 0.7], requires_grad=True)
    losses = net(torch.randn(16, 3)).square().mean(dim=0).unbind()
    kept = kept_by(losses, list(net.parameters()), u)
    left_out = [saved for saved, packed in kept if packed.stride() != saved.stride()]
    # what arrives at either tanh, and what leaves the upper one for the layer below
    assert sum(saved.shape == (16, 40) for saved in left_out) == 3
    for saved, packed in kept:
        assert packed.shape == saved.shape and packed.dtype is saved.dtype
        if packed.stride() != saved.stride():
            assert packed.untyped_storage().nbytes() == saved.element_size() and not packed.any()
        else:
            assert packed.data_ptr() == saved.data_ptr()


def test_images_with_channels_last_are_left_out_too(everything_is_large):
    net = nn.Sequential(nn.Conv2d(2, 4, 3), nn.Tanh(), nn.Conv2d(4, 2, 3))
    net = net.to(memory_format=torch.channels_last)
    x = torch.randn(3, 2, 8, 8).to(memory_format=torch.channels_last)
    losses = net(x).square().mean(dim=(0, 2, 3)).unbind()
    params, v = list(net.parameters()), torch.tensor([0.3, 0.7], dtype=torch.float64)
    values, _ = explicit(losses, params, v)
    kept = kept_by(losses, params, v.float().requires_grad_())
    assert any(saved.shape == (3, 4, 6, 6) and not any(p.stride()) for saved, p in kept)
    product = gramian_product(net(x).square().mean(dim=(0, 2, 3)), params, v)
    torch.testing.assert_close(torch.from_numpy(product.values), values, rtol=1e-5, atol=1e-6)


def test_small_tensors_are_kept():
    x = nn.Parameter(torch.ones(5))
    u = torch.tensor([0.3, 0.7], requires_grad=True)
    kept = kept_by([x.tanh().sum(), x.exp().sum()], [x], u)
    assert kept and all(packed.data_ptr() == saved.data_ptr() for saved, packed in kept)


def test_the_record_is_no_cycle(everything_is_large):
    """Also of operators whose output is saved, and of parts that the product does not reach."""
    gc.disable()
    try:
        x = nn.Parameter(torch.ones(8))
        z = x.sigmoid().exp()
        alive = weakref.ref(z.untyped_storage())
        losses = [z.softmax(0)[0], z.square().sum()]
        del z
        gramian_product(losses, [x], [0.5, 0.5])
        del losses
        assert alive() is None
    finally:
        gc.enable()


def test_an_operator_that_is_not_linear_in_the_gradient_is_refused(everything_is_large):
    x = nn.Parameter(torch.tensor([1.0, -2.0, 3.0]))
    z = x * 1.0
    z.register_hook(lambda g: g.clamp(-0.1, 0.1))
    with pytest.raises(RuntimeError, match="hidden from autograd"):
        gramian_product([z.square().sum(), z.exp().sum()], [x], [0.5, 0.5])
