"""Arguments of size n, and weights that may be on a device with them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from pyfront._utils.arguments import FloatArray, VectorLike, require, vector
from pyfront.backend.task_gradients import TaskGradients

__all__ = ["as_rows", "as_weights", "buffer_for", "check_out"]


def as_rows(gradients: object) -> list[list[Tensor | None]]:
    """Return m rows of T tensors or None; an [m, n] tensor becomes m rows of one block."""
    if isinstance(gradients, np.ndarray):
        gradients = torch.from_numpy(gradients)
    if isinstance(gradients, Tensor):
        if gradients.dim() != 2:
            raise ValueError(f"gradients: expected shape [m, n], got {list(gradients.shape)}")
        return [[row] for row in gradients.detach().unbind()]
    if not isinstance(gradients, (list, tuple)):
        raise TypeError(
            "gradients: expected m sequences of tensors or an [m, n] tensor, got "
            f"{type(gradients).__name__}"
        )
    rows = []
    for task, row in enumerate(gradients):
        if not isinstance(row, (list, tuple)):
            raise TypeError(
                f"gradients[{task}]: expected a sequence of tensors or None, got "
                f"{type(row).__name__}"
            )
        if any(issubclass(kind, np.ndarray) for kind in set(map(type, row))):
            row = [torch.from_numpy(g) if isinstance(g, np.ndarray) else g for g in row]
        rows.append(list(row))
    return rows


def buffer_for(target: Tensor | None, like: Tensor | None) -> Tensor | None:
    """Return where the core writes: ``target`` itself if it is laid out as its block."""
    if target is None or like is None or target.stride() == like.stride():
        return target if like is not None else None
    return torch.empty_like(like)


def check_out(
    gradients: TaskGradients, likes: Sequence[Tensor | None], out: Sequence[Tensor | None]
) -> None:
    """Raise where ``out`` does not fit the blocks or shares memory with a gradient."""
    if len(out) != len(likes):
        raise ValueError(f"out: expected {len(likes)} tensors, one per block, got {len(out)}")
    memory = {
        g.untyped_storage().data_ptr() for row in gradients.rows for g in row if g is not None
    }
    written: set[int] = set()
    for block, (target, like) in enumerate(zip(out, likes, strict=True)):
        if target is None:
            continue
        if not isinstance(target, Tensor):
            raise TypeError(f"out[{block}]: expected a tensor or None, got {type(target).__name__}")
        if target.device != gradients.device:
            raise ValueError(
                f"out[{block}]: is on {target.device}, the gradients are on {gradients.device}"
            )
        if like is not None and (target.shape != like.shape or target.dtype != like.dtype):
            raise ValueError(
                f"out[{block}]: expected {list(like.shape)} {like.dtype}, got "
                f"{list(target.shape)} {target.dtype}"
            )
        if target.numel() and target.untyped_storage().data_ptr() in memory:
            raise ValueError(f"out[{block}]: shares memory with a gradient")
        if target.numel() and target.data_ptr() in written:
            raise ValueError(f"out[{block}]: shares memory with another block")
        written.add(target.data_ptr())


def as_weights(weights: VectorLike, gradients: TaskGradients) -> FloatArray | Tensor:
    """Return w as an array that has been checked, or as a float64 tensor beside CUDA gradients."""
    if not (isinstance(weights, Tensor) and weights.is_cuda):
        w = vector("weights", weights, gradients.tasks)
        require("weights", w)
        return w
    if weights.device != gradients.device:
        raise ValueError(
            f"weights: are on {weights.device}, the gradients are on {gradients.device}"
        )
    if weights.shape != (gradients.tasks,) or weights.is_complex():
        raise ValueError(
            f"weights: expected {gradients.tasks} real values, one per task, got "
            f"{list(weights.shape)} {weights.dtype}"
        )
    return weights.detach().double().contiguous()
