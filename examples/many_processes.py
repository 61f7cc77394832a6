"""One model in several processes: data parallel, fully sharded, and on a mesh of two dimensions.

Run ``torchrun --nproc-per-node 2 examples/many_processes.py ddp``, or with ``fsdp2``, or with
``mesh`` in 4 processes. On scikit-learn's digits it learns which digit an image shows and how much
ink it holds. Without torchrun it trains in one process, with the same result.
"""

import os
import sys
from collections.abc import Iterator

import torch
import torch.distributed as dist
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module
from torch.nn.functional import cross_entropy, mse_loss
from torch.nn.parallel import DistributedDataParallel

import pyfront

PREFERENCE = {"digit": 0.7, "ink": 0.3}


class Digits(nn.Module):
    """A trunk and a head per task."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.trunk = nn.Linear(64, 32)
        self.digit = nn.Linear(32, 10)
        self.ink = nn.Linear(32, 1)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Return the predictions for images [n, 64]."""
        z = torch.tanh(self.trunk(x))
        return {"digit": self.digit(z), "ink": self.ink(z)}


def batches(epochs: int, size: int = 128) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield images [size, 64] and digits [size]; equal batches, in one order."""
    images, digits = load_digits(return_X_y=True)
    x, y = torch.tensor(images, dtype=torch.float32) / 16.0, torch.tensor(digits)
    for _ in range(epochs):
        for start in range(0, len(x) - size + 1, size):
            yield x[start : start + size], y[start : start + size]


def losses(model: nn.Module, x: Tensor, y: Tensor) -> dict[str, Tensor]:
    """Return the losses by the names of their tasks."""
    outputs = model(x)
    ink = x.mean(1, keepdim=True)
    return {"digit": cross_entropy(outputs["digit"], y), "ink": mse_loss(outputs["ink"], ink)}


def tensor_parallel(model: nn.Module, mesh: DeviceMesh) -> nn.Module:
    """Cut the trunk by columns and the heads by rows."""
    plan = {"trunk": ColwiseParallel(), "digit": RowwiseParallel(), "ink": RowwiseParallel()}
    return parallelize_module(model, mesh, plan)


def train(how: str, epochs: int = 2) -> pyfront.Report:
    """Train in this process, or together with the others, and return the last report."""
    model: nn.Module = Digits()
    place, parts = 0, 1  # of the batch
    group = None
    if how == "ddp":
        model = DistributedDataParallel(model)
        group = dist.group.WORLD
        place, parts = dist.get_rank(), dist.get_world_size()
    elif how == "fsdp2":
        fully_shard(model)
        place, parts = dist.get_rank(), dist.get_world_size()
    elif how == "mesh":
        mesh = init_device_mesh("cpu", (dist.get_world_size() // 2, 2), mesh_dim_names=("dp", "tp"))
        model = tensor_parallel(model, mesh["tp"])
        fully_shard(model, mesh=mesh["dp"])
        place, parts = mesh["dp"].get_local_rank(), mesh["dp"].size()
    base = torch.optim.AdamW(model.parameters(), lr=0.01)
    opt = pyfront.EPO(base, PREFERENCE, process_group=group)
    for x, y in batches(epochs):
        opt.step(losses(model, x[place::parts], y[place::parts]))
    assert opt.report is not None
    return opt.report


if __name__ == "__main__":
    several = "RANK" in os.environ
    if several:
        dist.init_process_group("gloo")
    last = train(sys.argv[1] if several else "alone")
    if not several or dist.get_rank() == 0:
        found = last.metrics()
        print("losses", *(f"{found[f'loss/{task}']:.6f}" for task in PREFERENCE))
    if several:
        dist.barrier()  # torch 2.6 may hang where the last message has just ended
        dist.destroy_process_group()
