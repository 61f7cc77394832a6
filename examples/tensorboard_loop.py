"""A loop that logs its metrics into TensorBoard.

Run ``python examples/tensorboard_loop.py``, then ``tensorboard --logdir runs``.
"""

from pathlib import Path

import torch
from torch.utils.tensorboard import SummaryWriter
from two_tasks import PREFERENCE, TwoTasks, balance, batches, losses

import pyfront


def train(folder: Path, epochs: int, *, track_rises: bool = True) -> TwoTasks:
    """Train with EPO and log losses, weights, non-uniformity and rises of every step."""
    model = TwoTasks()
    base = torch.optim.Adam(model.parameters(), lr=0.02)
    opt = pyfront.EPO(base, PREFERENCE, track_rises=track_rises)
    with SummaryWriter(folder) as writer:
        for step, batch in enumerate(batches(epochs)):
            opt.step(losses(model, batch))
            for name, value in opt.metrics().items():
                writer.add_scalar(name, value, step)
    return model


if __name__ == "__main__":
    trained = train(Path("runs") / "epo", epochs=60)
    print(f"r1 l1 / (r2 l2) = {balance(trained):.3f}; now run: tensorboard --logdir runs")
