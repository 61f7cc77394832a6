"""Resident memory, handles and threads over very many steps.

``python bench/soak/steps.py --steps 1000000 --out figures.json`` makes so many steps of EPO, of
preference feedback and of a product method in turn, in one process, and records memory, open
handles and threads every thousand. The slope is the least-squares line over the last four fifths.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

import pyfront

SAMPLE = 1000
METHODS: dict[str, Callable[[torch.optim.Optimizer], pyfront.MultiTaskOptimizer]] = {
    "EPO": lambda base: pyfront.EPO(base, [0.5, 0.3, 0.2]),
    "feedback": lambda base: pyfront.PreferenceFeedback(base, [0.5, 0.3, 0.2]),
    "products": lambda base: pyfront.SingleLoopMGDA(base),
}


def usage() -> tuple[float, int, int]:
    """Resident memory in MB, open handles, threads."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    memory = pages * os.sysconf("SC_PAGE_SIZE") / 1e6
    return memory, len(os.listdir("/proc/self/fd")), len(os.listdir("/proc/self/task"))


def trainer(method: str) -> Callable[[], None]:
    """One step of a small network on fresh data."""
    net = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.Tanh(), torch.nn.Linear(16, 3))
    opt = METHODS[method](torch.optim.Adam(net.parameters(), lr=1e-3))

    def losses() -> list[torch.Tensor]:
        batch = torch.randn(8, 8)
        out = net(batch)
        return [(out[:, j] - batch[:, j]).square().mean() + 0.1 for j in range(3)]

    return lambda: opt.step(losses)


def main(arguments: list[str] | None = None) -> dict[str, float]:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=1_000_000)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    steps = {method: trainer(method) for method in METHODS}
    start = time.perf_counter()
    samples = []
    for count in range(options.steps):
        # in stretches, as an epoch of each
        list(steps.values())[count // 100 % len(steps)]()
        if (count + 1) % SAMPLE == 0:
            gc.collect()
            samples.append((count + 1, time.perf_counter() - start, *usage()))
    made, seconds, memory, handles, threads = (
        np.array(column) for column in zip(*samples, strict=True)
    )
    late = made > 0.2 * options.steps
    per_step = np.polyfit(made[late], memory[late], 1)[0]
    figures = {
        "steps": int(made[-1]),
        "hours": seconds[-1] / 3600,
        "MB at the start, at the end": [float(memory[0]), float(memory[-1])],
        "MB per million steps": per_step * 1e6,
        "MB per hour": per_step * made[-1] / seconds[-1] * 3600,
        "handles, least and most": [int(handles[late].min()), int(handles[late].max())],
        "threads, least and most": [int(threads[late].min()), int(threads[late].max())],
    }
    text = json.dumps(figures, indent=1)
    print(text)
    if options.out:
        options.out.write_text(text + "\n")
    return figures


if __name__ == "__main__":
    main()
