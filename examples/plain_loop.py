"""A plain loop with mixed precision, micro-batches and averaged weights.

Run ``python examples/plain_loop.py``.
"""

from typing import Any

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from two_tasks import PREFERENCE, TwoTasks, balance, batches, losses

import pyfront


def optimizer(model: nn.Module) -> pyfront.EPO:
    """Return EPO around Adam."""
    return pyfront.EPO(torch.optim.Adam(model.parameters(), lr=0.02), PREFERENCE)


def mixed_precision(epochs: int, dtype: torch.dtype = torch.bfloat16) -> nn.Module:
    """Scale the losses of an autocast forward pass; clip the unscaled direction."""
    model = TwoTasks()
    opt = optimizer(model)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    for batch in batches(epochs):
        with torch.autocast("cpu", dtype=dtype):
            found = losses(model, batch)
        opt.backward(found, scaler=scaler)
        scaler.unscale_(opt)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        scaler.step(opt)
        scaler.update()
    return model


def micro_batches(epochs: int, parts: int = 2) -> nn.Module:
    """Decide once on the task gradients of several micro-batches, as on one large batch."""
    model = TwoTasks()
    opt = optimizer(model)
    for batch in batches(epochs):
        rows = [{k: v.chunk(parts)[i] for k, v in batch.items()} for i in range(parts)]
        shares = [
            {task: loss / parts for task, loss in losses(model, part).items()} for part in rows
        ]
        for share in shares[:-1]:
            opt.accumulate(share)
        opt.step(shares[-1])
    return model


def averaged(epochs: int, decay: float | None = 0.9) -> AveragedModel:
    """Average the weights: exponentially with ``decay``, equally (SWA) where it is None."""
    model = TwoTasks()
    opt = optimizer(model)
    average = None if decay is None else get_ema_multi_avg_fn(decay)
    mean = AveragedModel(model, multi_avg_fn=average)
    for batch in batches(epochs):
        opt.step(losses(model, batch))
        mean.update_parameters(model)
    return mean


def resumable(epochs: int, state: dict[str, Any] | None = None) -> dict[str, Any]:
    """Train from a state, or from the start, and return the state after it."""
    model = TwoTasks()
    opt = optimizer(model)
    schedule = torch.optim.lr_scheduler.ExponentialLR(opt, 0.999)
    parts: dict[str, Any] = {"model": model, "opt": opt, "schedule": schedule}
    for name, saved in (state or {}).items():
        parts[name].load_state_dict(saved)
    for batch in batches(epochs):
        opt.step(losses(model, batch))
        schedule.step()
    return {name: part.state_dict() for name, part in parts.items()}


if __name__ == "__main__":
    for loop in (mixed_precision, micro_batches, averaged):
        print(f"{loop.__name__}: r1 l1 / (r2 l2) = {balance(loop(60)):.3f}")
