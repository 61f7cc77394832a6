"""What torchrun starts: a framework trains in this process, and leaves what it did in a folder."""

import importlib
import os
import sys

import torch
import torch.distributed as dist
from launch import leave

import pyfront


def lightning(folder, name):
    example = importlib.import_module("lightning_loops")
    seen = []

    class Recording(getattr(example, name)):
        def training_step(self, batch, index):
            seen.append({key: value.clone() for key, value in batch.items()})
            return super().training_step(batch, index)

    module = Recording()
    example.trained(module, folder, epochs=3, devices=2, strategy="ddp")
    return module.model, seen


def automatic(folder):
    return lightning(folder, "Automatic")


def manual(folder):
    return lightning(folder, "Manual")


def fabric(folder):
    example = importlib.import_module("lightning_loops")
    model = example.fabric_trained(3, devices=2, strategy="ddp")
    rank = dist.get_rank()
    return model, [{k: v[rank::2] for k, v in batch.items()} for batch in example.batches(3)]


def model_parallel(folder):
    """Lightning's strategy for models that the user shards."""
    from lightning.pytorch.strategies import ModelParallelStrategy
    from torch.distributed.fsdp import fully_shard

    example = importlib.import_module("lightning_loops")
    seen = []

    class Sharded(example.Automatic):
        def configure_model(self):
            fully_shard(self.model, mesh=self.device_mesh["data_parallel"])

        def configure_optimizers(self):
            return pyfront.EPO(torch.optim.Adam(self.parameters(), lr=0.02), example.PREFERENCE)

        def training_step(self, batch, index):
            seen.append({key: value.clone() for key, value in batch.items()})
            return super().training_step(batch, index)

    module = Sharded()
    strategy = ModelParallelStrategy(data_parallel_size=2, tensor_parallel_size=1)
    example.trained(module, folder, epochs=3, devices=2, strategy=strategy)
    return module.model, seen


def accelerate(folder):
    example = importlib.import_module("accelerate_loop")
    model = example.train(3)
    rank = dist.get_rank()
    return model, [{k: v[rank::2] for k, v in batch.items()} for batch in example.batches(3)]


def trainer(folder):
    example = importlib.import_module("trainer")
    model = example.TwoTasks()
    made = example.trainer(model, folder, 3)
    seen, compute_loss = [], made.compute_loss

    def recording(model, inputs, **more):
        seen.append({name: value.clone() for name, value in inputs.items()})
        return compute_loss(model, inputs, **more)

    made.compute_loss = recording
    made.train()
    return model, seen


if __name__ == "__main__":
    torch.set_default_dtype(torch.float64)
    folder = sys.argv[2]
    model, seen = globals()[sys.argv[1]](folder)
    parameters = [p.detach() for p in model.parameters()]
    whole = [p.full_tensor() if hasattr(p, "full_tensor") else p for p in parameters]
    found = {"parameters": whole, "seen": seen}
    torch.save({**found, "world": dist.get_world_size()}, f"{folder}/{os.environ['RANK']}.pt")
    leave()
