"""All-reduce of rows against reduce-scatter, in steps that are otherwise the same, by gloo.

    python bench/exchanges.py                two processes on one host
    python bench/exchanges.py --mbit 400     two network namespaces on a link of this rate (as root)

Rows travel in the package's buckets from within their passes, and once in one bucket between them.
Per step and process, of n entries a
row in W processes, on paper:

- all-reduce: 2 m n (W - 1) / W; C and d are computed in every process.
- reduce-scatter: (m + 1) n (W - 1) / W; each process has 1 / W of every row, C is summed, and d is
  gathered. By ``reduce_scatter_tensor``, which gloo makes of an all-reduce, and by
  ``all_to_all_single`` and a sum, which sends no more than that.

The last two are prototypes without errors, absent gradients or roles.
"""

import argparse
import os
import sys
from functools import partial
from pathlib import Path

import processes
import torch
import torch.distributed as dist

import pyfront
from pyfront.backend.task_gradients import TaskGradients
from pyfront.distributed import averaging

M, WEIGHTS = processes.M, [0.5, 0.3, 0.2]
WAYS = ["all-reduce", "between passes", "all-to-all", "reduce_scatter_tensor"]


class Scattered:
    """A step on rows of which each process has a part."""

    def __init__(self, params, losses, base, way):
        self.params, self.losses, self.base, self.way = params, losses, base, way
        self.world = dist.get_world_size()
        self.blocks = [bucket.blocks for bucket in averaging.buckets_of(params)]
        self.place = {block: place for place, found in enumerate(self.blocks) for block in found}

    def __call__(self):
        self.works, self.found = [], [{} for _ in self.blocks]
        handles = [p.register_hook(partial(self.came, b)) for b, p in enumerate(self.params)]
        losses = self.losses()
        for task, loss in enumerate(losses):
            torch.autograd.grad(loss, self.params, retain_graph=task + 1 < M)
        for handle in handles:
            handle.remove()
        parts = [self.part(*work) for work in self.works]
        count = len(self.blocks)
        gradients = TaskGradients([parts[task * count : (task + 1) * count] for task in range(M)])
        gramian = torch.from_numpy(gradients.gramian())
        dist.all_reduce(gramian)
        weights = torch.tensor(WEIGHTS, dtype=torch.float64)
        dist.broadcast(weights, 0)
        mine = [torch.empty_like(part) for part in parts[:count]]
        gradients.combine(weights.numpy(), mine)
        self.write(mine)
        self.base.step()

    def came(self, block, gradient):
        place = self.place[block]
        found = self.found[place]
        found[block] = gradient
        if len(found) < len(self.blocks[place]):
            return
        size = sum(g.numel() for g in found.values())
        flat = torch.zeros(size + -size % self.world)
        at = 0
        for b in self.blocks[place]:
            torch.mul(found[b].reshape(-1), 1 / self.world, out=flat[at : at + found[b].numel()])
            at += found[b].numel()
        found.clear()
        if self.way == "all-to-all":
            out = torch.empty_like(flat)
            self.works.append((dist.all_to_all_single(out, flat, async_op=True), out))
        else:
            out = torch.empty(flat.numel() // self.world)
            self.works.append((dist.reduce_scatter_tensor(out, flat, async_op=True), out))

    def part(self, work, out):
        work.wait()
        return out.view(self.world, -1).sum(0) if self.way == "all-to-all" else out

    def write(self, mine):
        """Gather d, and put it into ``.grad``."""
        whole = [torch.empty(part.numel() * self.world) for part in mine]
        pairs = zip(whole, mine, strict=True)
        for work in [dist.all_gather_into_tensor(d, part, async_op=True) for d, part in pairs]:
            work.wait()
        for blocks, d in zip(self.blocks, whole, strict=True):
            at = 0
            for p in (self.params[block] for block in blocks):
                p.grad.copy_(d[at : at + p.numel()].view_as(p))
                at += p.numel()


def received():
    """Bytes that have come over the link to this host, or 0 without one."""
    counter = Path("/sys/class/net/wire/statistics/rx_bytes")
    return int(counter.read_text()) if counter.exists() else 0


def measured(rank, world, rounds, batch):
    """Return times and processor times [rounds, 3 + ways], and the bytes of each way."""
    model = processes.model_of()
    params = list(model.parameters())
    losses = processes.losses_on(model, batch)
    base = torch.optim.AdamW(params, lr=1e-4)
    opt = pyfront.EPO(base, WEIGHTS, process_group=dist.group.WORLD)
    opt.step(losses())

    def between():
        size = averaging.SMALLEST
        averaging.SMALLEST = averaging.LARGEST  # a row of this model is one bucket
        opt.step(losses())
        averaging.SMALLEST = size

    scattered = [Scattered(params, losses, base, way) for way in WAYS[2:]]
    steps = [lambda: opt.step(losses()), between, *scattered]
    sent = []
    for step in steps:
        dist.barrier()
        before = received()
        step()
        dist.barrier()
        sent.append(received() - before)
    return *processes.interleaved([*processes.floor(params, losses, base), *steps], rounds), sent


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mbit", type=int)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--batch", type=int, default=256)
    args = parser.parse_args()
    if args.mbit is None:
        found = processes.launch.launch(measured, 2, args.rounds, args.batch)[0]
    else:
        found = processes.on_link(args.mbit, "measured", args.rounds, args.batch, __file__)
    times, work, sent = found
    compute, link, update, *steps = times.T
    least = torch.maximum(compute, link) + update
    print(f"m = {M}, batch {args.batch}, {args.rounds} rounds, load {os.getloadavg()[0]:.1f}")
    print(f"passes {1e3 * compute.median():.0f} ms, all-reduces {1e3 * link.median():.0f} ms")
    for way, step, busy, size in zip(WAYS, steps, work.T[3:], sent, strict=True):
        q = torch.tensor([0.25, 0.5, 0.75], dtype=torch.float64)
        low, middle, high = (step / least).quantile(q)
        print(f"{way:22} {1e3 * step.median():8.0f} ms", end="  ")
        print(f"{middle:.2f} ({low:.2f} to {high:.2f})", end="  ")
        print(f"{1e3 * busy.median():.0f} ms of a processor, {size / 1e6:.1f} MB received")


if __name__ == "__main__":
    if len(sys.argv) == 6 and sys.argv[1].isdigit():
        processes.on_host({"measured": measured}, sys.argv[1:])
    else:
        main()
