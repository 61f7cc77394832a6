"""What torchrun starts: a framework trains in this process, and leaves what it did in a folder."""

import importlib
import os
import sys

import torch
import torch.distributed as dist
from launch import leave


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
    found = {"parameters": [p.detach() for p in model.parameters()], "seen": seen}
    torch.save({**found, "world": dist.get_world_size()}, f"{folder}/{os.environ['RANK']}.pt")
    leave()
