"""Accelerate: prepare, micro-batches, mixed precision, and a state that is saved and loaded.

Run ``python examples/accelerate_loop.py``, or ``torchrun --nproc-per-node 2`` on it: each process
then takes its part of every batch.
"""

from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from two_tasks import PREFERENCE, TwoTasks, balance, batches, losses

import pyfront


def train(
    epochs: int,
    *,
    micro_batches: int = 1,
    precision: str = "no",
    save: Path | None = None,
    load: Path | None = None,
    log: Any = None,
) -> torch.nn.Module:
    """Train, loading the state before and saving it after; return the model."""
    accelerator = Accelerator(
        cpu=True, gradient_accumulation_steps=micro_batches, mixed_precision=precision
    )
    model = TwoTasks()
    group = torch.distributed.group.WORLD  # None in one process; Accelerator() starts it
    base = torch.optim.Adam(model.parameters(), lr=0.02)
    opt = pyfront.EPO(base, PREFERENCE, process_group=group)
    place, parts = accelerator.process_index, accelerator.num_processes
    model, prepared = accelerator.prepare(model, opt)
    if load is not None:
        accelerator.load_state(str(load))
    for whole in batches(epochs):
        batch = {name: values[place::parts] for name, values in whole.items()}
        with accelerator.accumulate(model):
            accelerator.backward(opt.scalarize(losses(model, batch)))
            prepared.step()
            prepared.zero_grad()
        if log is not None:
            log(opt.metrics())
    if save is not None:
        accelerator.save_state(str(save))
    return accelerator.unwrap_model(model)


if __name__ == "__main__":
    print(f"accelerate: r1 l1 / (r2 l2) = {balance(train(60)):.3f}")
    print(f"two micro-batches: {balance(train(120, micro_batches=2)):.3f}")
