"""What a step is given: losses with a graph, checked, and their numbers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from pyfront._utils.arguments import FloatArray
from pyfront.backend import cuda as devices

__all__ = ["as_losses", "loss_values", "losses_present", "scalars", "stacked", "widened"]


def as_losses(losses: object, name: str = "losses") -> list[Tensor]:
    """Return the losses as a list of scalar tensors with a graph; an error names the first bad one.

    Args:
        losses: a list or tuple of scalar tensors, or a 1-D tensor [m].
        name: what errors call them.
    """
    found = _listed(losses, name)
    for task, loss in enumerate(found):
        _check_loss(name, task, loss)
    return found


def losses_present(losses: object, name: str = "losses") -> tuple[list[Tensor], list[int], int]:
    """Return the losses that are there, their places, and the number of places.

    Args:
        losses: as for :func:`as_losses`; None in the place of a loss stands for a task that has no
            data.
        name: what errors call them.
    """
    found = _listed(losses, name)
    places = [task for task, loss in enumerate(found) if loss is not None]
    for task in places:
        _check_loss(name, task, found[task])
    return [found[task] for task in places], places, len(found)


def _listed(losses: object, name: str) -> list[Tensor]:
    if isinstance(losses, Tensor):
        if losses.dim() != 1:
            raise ValueError(f"{name}: expected a 1-D tensor [m], got shape {list(losses.shape)}")
        losses = list(losses.unbind())
    if not isinstance(losses, (list, tuple)):
        raise TypeError(f"{name}: expected a list of scalar tensors, got {type(losses).__name__}")
    if not losses:
        raise ValueError(f"{name}: expected at least one loss, got none")
    return list(losses)


def _check_loss(losses: str, task: int, loss: object) -> None:
    if (
        isinstance(loss, Tensor)
        and loss.requires_grad
        and loss.numel() == 1
        and not (loss.is_complex() or loss.is_meta)
    ):
        return
    name = f"{losses}[{task}]"
    if not isinstance(loss, Tensor):
        raise TypeError(f"{name}: expected a scalar tensor, got {type(loss).__name__}")
    if loss.numel() != 1:
        raise ValueError(f"{name}: expected a scalar, got shape {list(loss.shape)}")
    if loss.is_meta:
        raise ValueError(f"{name}: device meta holds no values")
    if loss.is_complex():
        raise TypeError(f"{name}: expected a real loss, got {loss.dtype}")
    raise ValueError(
        f"{name} = {loss.item():g}: it has no graph; compute it from the parameters, "
        "with gradients enabled and without .detach() or .item(); for a task that has no data "
        "in this batch give None"
    )


def loss_values(losses: Sequence[Tensor]) -> FloatArray:
    """Return the numbers behind the losses, [m] float64."""
    return np.array(scalars(losses), dtype=np.float64)


def scalars(values: Sequence[Tensor | None]) -> list[float]:
    """Return the numbers of scalar tensors, 0 for None; one wait if all are on one CUDA device."""
    there = [value for value in values if value is not None]
    if there and there[0].is_cuda and all(value.device == there[0].device for value in there):
        numbers: list[float] = devices.to_host(stacked(there))[0].tolist()
    else:
        numbers = [value.item() for value in there]
    found = iter(numbers)
    return [0.0 if value is None else next(found) for value in values]


def stacked(values: Sequence[Tensor]) -> Tensor:
    """Return scalar tensors on one device as one, [m] float64 there, without their graphs."""
    return torch.stack([value.detach().reshape(()).double() for value in values])


def widened(losses: Sequence[Tensor]) -> list[Tensor]:
    """Return the losses in float32 at least: half precision would round their weights."""
    return [loss if loss.dtype.itemsize >= 4 else loss.float() for loss in losses]
