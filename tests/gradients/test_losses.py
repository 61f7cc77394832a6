"""Losses and their numbers."""

import pytest
import torch

from pyfront.gradients.losses import loss_values, scalars


def test_numbers_of_any_shape_dtype_and_absence():
    values = [torch.tensor(2.0), None, torch.tensor([[3.0]], dtype=torch.bfloat16), None]
    assert scalars(values) == [2.0, 0.0, 3.0, 0.0]
    assert scalars([None]) == [0.0] and scalars([]) == []


def test_losses_keep_their_numbers_and_graphs():
    x = torch.nn.Parameter(torch.tensor([1.0, 2.0], dtype=torch.float64))
    losses = [(x**2).sum(), x[1] / 3.0]
    assert loss_values(losses).tolist() == [5.0, 2.0 / 3.0]
    assert all(loss.grad_fn is not None for loss in losses)


def test_losses_on_a_device_come_in_one_copy(cuda, monkeypatch):
    monkeypatch.setattr(torch.Tensor, "item", lambda value: pytest.fail("a wait of its own"))
    values = [torch.tensor(2.0, device=cuda), None, torch.tensor([0.5], device=cuda).half()]
    assert scalars(values) == [2.0, 0.0, 0.5]
