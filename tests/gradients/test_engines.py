"""Every trap of torch's gradients: Gramian and direction must be those of plain autograd."""

import pytest
import torch
from gradient_cases import CASES, reference
from torch import nn
from torch.utils.checkpoint import checkpoint

from pyfront.backend.task_gradients import TaskGradients
from pyfront.gradients.engines import ENGINES, choose_engine
from pyfront.gradients.grad_engine import GradEngine
from pyfront.optimizer.direction import assign, direction_buffers


@pytest.mark.parametrize("engine", ["grad", "steal"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_gramian_and_direction_are_those_of_plain_autograd(case, engine, device):
    with device:
        losses, params = case()
    jacobian = reference(losses, params).cpu()
    rows = ENGINES[engine]().rows(losses, params, retain_graph=True)
    before = [[None if g is None else g.to_dense().clone() for g in row] for row in rows]

    gradients = TaskGradients(rows)
    torch.testing.assert_close(
        torch.from_numpy(gradients.gramian()), jacobian @ jacobian.T, rtol=1e-12, atol=1e-12
    )
    weights = torch.linspace(0.3, 1.0, len(losses), dtype=torch.float64)
    assign(params, gradients.spread(out := direction_buffers(gradients, params)[0]))
    gradients.combine(weights.numpy(), out)
    assign(params, gradients.spread(out))
    directions = [torch.zeros_like(p) if p.grad is None else p.grad.to_dense() for p in params]
    flat = torch.cat([d.double().reshape(-1) for d in directions]).cpu()
    tolerance = 1e-2 if params[0].dtype == torch.bfloat16 else 1e-6
    torch.testing.assert_close(flat, jacobian.T @ weights, rtol=tolerance, atol=tolerance)
    # no task gradient was written to
    for row, copies in zip(rows, before, strict=True):
        for g, copy in zip(row, copies, strict=True):
            assert g is None or torch.equal(g.to_dense(), copy)


@pytest.mark.parametrize("case", CASES[:4], ids=lambda case: case.__name__)
def test_grad_is_dense_and_unshared(case):
    losses, params = case()
    gradients = TaskGradients(ENGINES["grad"]().rows(losses, params, retain_graph=False))
    out, _ = direction_buffers(gradients, params)
    gradients.combine(torch.ones(len(losses)).double().numpy(), out)
    assign(params, out)
    assert len({p.grad.data_ptr() for p in params}) == len(params)
    for p in params:
        assert p.grad.stride() == p.stride()
        assert p.grad.untyped_storage().nbytes() == p.grad.numel() * p.grad.element_size()


def test_only_unreadable_tensors_are_copied():
    p = nn.Parameter(torch.randn(8, 8))
    rows = ENGINES["grad"]().rows([(p**2).sum(), p.sum()], [p], retain_graph=False)
    gradients = TaskGradients(rows)
    assert gradients.rows[0][0] is rows[0][0]  # dense: read in place
    assert gradients.rows[1][0] is not rows[1][0]  # expanded: 4 bytes behind 64 elements


def test_old_torch_without_the_exchange_api_reads_the_same():
    from pyfront.backend import _core

    rows = [[torch.randn(3, 4), None, torch.randn(5).double()] for _ in range(3)]
    rows[1][0] = torch.randn(4, 3).t()
    tables = [_core.TensorTable(rows, torch.Tensor, use) for use in (True, False)]
    assert tables[0].irregular == tables[1].irregular == [(1, 0)]
    rows[1][0] = rows[1][0].contiguous()
    fast, slow = (_core.TensorTable(rows, torch.Tensor, use) for use in (True, False))
    assert (_core.gramian(fast, 1) == _core.gramian(slow, 1)).all()


def test_reentrant_checkpoint_needs_and_gets_the_steal_engine():
    weight = nn.Parameter(torch.randn(4, 4))

    def losses():
        x = torch.randn(3, 4, generator=torch.Generator().manual_seed(1)).requires_grad_()
        inner = checkpoint(lambda v: torch.tanh(v @ weight), x, use_reentrant=True)
        y = inner @ weight  # used inside and outside: autograd.grad is silently wrong here
        return [(y**2).sum(), y.sum()]

    x = torch.randn(3, 4, generator=torch.Generator().manual_seed(1))
    y = torch.tanh(x @ weight) @ weight
    jacobian = reference([(y**2).sum(), y.sum()], [weight])
    assert choose_engine("auto", losses()).name == "steal"
    rows = ENGINES["steal"]().rows(losses(), [weight], retain_graph=False)
    actual = torch.stack([row[0].reshape(-1).double() for row in rows])
    torch.testing.assert_close(actual, jacobian, rtol=1e-5, atol=1e-6)
    wrong = ENGINES["grad"]().rows(losses(), [weight], retain_graph=False)
    assert not torch.allclose(wrong[0][0].reshape(-1).double(), jacobian[0], rtol=1e-3)


def test_steal_leaves_grad_as_it_was_even_when_it_fails():
    p = nn.Parameter(torch.randn(3))
    p.grad = kept = torch.ones(3)
    loss = (p**2).sum()
    ENGINES["steal"]().rows([loss], [p], retain_graph=False)
    assert p.grad is kept and torch.equal(kept, torch.ones(3))
    with pytest.raises(ValueError, match=r"losses\[0\].*freed"):
        ENGINES["steal"]().rows([loss], [p], retain_graph=False)
    assert p.grad is kept and torch.equal(kept, torch.ones(3))


def test_complex_gradients_are_refused_by_name():
    p = nn.Parameter(torch.randn(2, dtype=torch.complex64))
    rows = ENGINES["grad"]().rows([(p.abs() ** 2).sum()], [p], retain_graph=False)
    with pytest.raises(TypeError, match=r"gradients\[0\]\[0\].*complex64"):
        TaskGradients(rows)


class Odd(GradEngine):
    """Gives another number of gradients than there are losses."""

    name = "odd"
    more, ended = 0, 0

    def gradients(self, losses, params, keep):
        chosen = [*losses, *losses[:1]][: len(losses) + self.more]
        for loss in chosen:
            yield torch.autograd.grad(loss, params, retain_graph=True)
        Odd.ended += 1


@pytest.mark.parametrize(
    ("more", "message"), [(-1, "ended after 1 of 2 losses"), (1, "went on after 2 losses")]
)
def test_an_engine_that_miscounts_is_named(monkeypatch, more, message):
    monkeypatch.setattr(Odd, "more", more)
    p = nn.Parameter(torch.tensor([1.0, 2.0]))
    with pytest.raises(RuntimeError, match=rf"Odd\.gradients: {message}"):
        Odd().rows([p[0] ** 2, p[1] ** 2], [p], retain_graph=False)


def test_a_generator_comes_to_its_end():
    p = nn.Parameter(torch.tensor([1.0, 2.0]))
    before = Odd.ended
    assert len(Odd().rows([p[0] ** 2, p[1] ** 2], [p], retain_graph=False)) == 2
    assert Odd.ended == before + 1
