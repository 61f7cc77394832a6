"""``torch.compile`` of the model, and of a function that makes whole steps.

Run ``python examples/compiled.py``.
"""

from typing import cast

import torch
from torch import nn
from two_tasks import PREFERENCE, TwoTasks, balance, batches, losses

import pyfront


def compiled_model(epochs: int, backend: str = "inductor") -> nn.Module:
    """Compile the forward pass; its backward pass runs once per task."""
    model = TwoTasks()
    fast = cast(nn.Module, torch.compile(model, backend=backend))
    opt = pyfront.EPO(torch.optim.Adam(model.parameters(), lr=0.02), PREFERENCE)
    for batch in batches(epochs):
        opt.step(losses(fast, batch))
    return model


def compiled_step(epochs: int, backend: str = "inductor") -> nn.Module:
    """Compile the step: the decision is a break in the graph, what is around it is compiled."""
    model = TwoTasks()
    opt = pyfront.EPO(torch.optim.Adam(model.parameters(), lr=0.02), PREFERENCE)

    @torch.compile(backend=backend)
    def step(batch: dict[str, torch.Tensor]) -> None:
        opt.zero_grad()
        opt.scalarize(losses(model, batch)).backward()
        opt.step()

    for batch in batches(epochs):
        step(batch)
    return model


if __name__ == "__main__":
    for train in (compiled_model, compiled_step):
        print(f"{train.__name__}: r1 l1 / (r2 l2) = {balance(train(60)):.3f}")
