"""Time and memory of a step on a large sparse embedding table, against plain training.

Each line is a process of its own: the growth of its peak resident size over five steps, and
processor time per step. A step reads 4096 × 10 rows of a table of 2 000 000 × 16 (128 MB) and has
four losses; the densest gradient there is has 41 thousand rows.

    OMP_NUM_THREADS=1 python bench/embeddings.py
"""

import os
import subprocess
import sys
import time
from pathlib import Path

import torch
from torch import nn

import pyfront

ROWS, WIDTH, BATCH, BAG, TASKS, STEPS = 2_000_000, 16, 4096, 10, 4, 5

METHODS = {
    "plain": None,
    "MGDA": pyfront.MGDA,
    "EPO": lambda base: pyfront.EPO(base, [1.0] * TASKS),
    "MGDA, features=": pyfront.MGDA,
    "MGDA, upper_bound": lambda base: pyfront.MGDA(base, upper_bound=True),
    "PreferenceFeedback": lambda base: pyfront.PreferenceFeedback(base, [1.0] * TASKS),
}
BASES = {
    "SGD": lambda net: torch.optim.SGD(net.parameters(), lr=0.1),
    "SparseAdam": lambda net: torch.optim.SparseAdam(net.table.parameters(), lr=0.01),
}


class Recommender(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.EmbeddingBag(ROWS, WIDTH, sparse=True, mode="mean")
        self.heads = nn.ModuleList(nn.Linear(WIDTH, 1) for _ in range(TASKS))

    def batch(self):
        z = self.table(torch.randint(0, ROWS, (BATCH, BAG)))
        return z, [(head(z)[:, 0] - torch.rand(BATCH)).square().mean() for head in self.heads]


def measure(method, base):
    torch.manual_seed(0)
    net = Recommender()
    plain = BASES[base](net)
    opt = plain if METHODS[method] is None else METHODS[method](plain)

    def step():
        z, losses = net.batch()
        if opt is plain:
            opt.zero_grad()
            sum(losses).backward()
            opt.step()
        elif "=" in method or "bound" in method:
            opt.step(losses, features=z)
        else:
            opt.step(losses)

    sum(net.batch()[1]).backward()  # SparseAdam makes its dense state at its first step
    plain.step()
    plain.zero_grad()
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak
    before = status("VmRSS")
    start = time.process_time()
    for _ in range(STEPS):
        step()
    seconds = (time.process_time() - start) / STEPS
    print(f"{1e3 * seconds:.1f} ms, +{(status('VmHWM') - before) / 1024:.0f} MiB")


def status(name):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name))


if __name__ == "__main__":
    if len(sys.argv) == 3:
        measure(*sys.argv[1:])
    else:
        environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "1000000"}
        for base in BASES:
            for method in METHODS:
                command = [sys.executable, "-W", "ignore", __file__, method, base]
                out = subprocess.run(command, env=environment, text=True, stdout=subprocess.PIPE)
                print(f"{base:12s} {method:20s} {out.stdout.strip()}", flush=True)
