"""Timings of whole training steps on a CUDA device; bench/gpu.py runs it.

Eager, as a CUDA graph, and TorchJD's, for a model that is bound by launches (LeNet, m = 2) and for
one that is bound by memory (1e8 parameters). Timed as in gpu_timings.py.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent))

from gpu_timings import DEVICE, attempt, failed, graph_of, time_ms
from test_step import LeNet
from training_steps import torchjd

from pyfront import EPO, MGDA, LinearScalarization, ParetoMTL, functional, preferences


class Wide(torch.nn.Module):
    """1e8 parameters in one matrix, which each of m losses reaches; batch 32."""

    def __init__(self, tasks):
        super().__init__()
        self.trunk = torch.nn.Linear(10_000, 10_000, bias=False)
        self.head = torch.nn.Linear(10_000, tasks)

    def losses(self, batch):
        x, targets = batch
        return ((self.head(torch.tanh(self.trunk(x))) - targets) ** 2).mean(dim=0).unbind()


def adam(model):
    return torch.optim.Adam(model.parameters(), lr=1e-4, capturable=True)


def methods_for(tasks):
    uniform = [1.0 / tasks] * tasks
    vectors = preferences.das_dennis(tasks, 1)
    return {
        "MGDA": MGDA,
        "ParetoMTL": lambda base: ParetoMTL(base, vectors, 1, warmup_steps=5),
        "LinearScalarization": lambda base: LinearScalarization(base, uniform),
        "EPO": lambda base: EPO(base, uniform),
    }


def row(name, kind, make_step):
    with attempt(f"{name:>20} {kind}"):
        print(f"{name:>20} {kind:8} {time_ms([make_step()])[0]:9.4f}", flush=True)


def step_table(make_model, batch, tasks, names):
    """ms a step of each method and way; a model of its own for each method."""
    for name, method in methods_for(tasks).items():
        if name not in names:
            continue
        model = make_model().to(DEVICE)
        opt = method(adam(model))

        def step(opt=opt, model=model):
            return opt.step(model.losses(batch))

        row(name, "eager", lambda step=step: step)
        if name != "EPO":
            row(name, "captured", lambda step=step: graph_of(step).replay)
        del model, opt, step
        torch.cuda.empty_cache()
    if "EPO" in names:
        model = make_model().to(DEVICE)
        uniform = [1.0 / tasks] * tasks
        row("EPO", "2 graphs", lambda: epo_in_two_graphs(model, batch, uniform, adam(model)))
    if importlib.util.find_spec("torchjd") is not None:
        row("TorchJD MGDA", "eager", lambda: torchjd_step(make_model().to(DEVICE), batch))
    torch.cuda.empty_cache()


def epo_in_two_graphs(model, batch, preference, base):
    """The loop of docs/gpu.md: a function that makes a step."""
    params, tasks = list(model.parameters()), len(preference)
    numbers = torch.empty(tasks + tasks**2, dtype=torch.float64, pin_memory=True)
    weights = torch.full((tasks,), 1.0 / tasks, dtype=torch.float64, device=DEVICE)
    for p in params:
        p.grad = torch.zeros_like(p)
    rows = []

    def gather():
        losses = model.losses(batch)
        rows[:] = [
            torch.autograd.grad(loss, params, retain_graph=True, allow_unused=True)
            for loss in losses
        ]
        values = torch.stack([loss.detach().double() for loss in losses])
        numbers.copy_(torch.cat([values, functional.gramian(rows).flatten()]), non_blocking=True)

    def update():
        functional.combine(rows, weights, [p.grad for p in params])
        base.step()

    gather()
    update()
    first = graph_of(gather, warmup=1)
    second = torch.cuda.CUDAGraph()
    with torch.cuda.graph(second, pool=first.pool()):
        update()

    def step():
        first.replay()
        torch.cuda.current_stream().synchronize()
        c = numbers[tasks:].reshape(tasks, tasks)
        report = functional.epo_weights(numbers[:tasks], c, preference)
        weights.copy_(report.weights.pin_memory(), non_blocking=True)
        second.replay()

    return step


def torchjd_step(model, batch):
    def losses():
        return list(model.losses(batch))

    return torchjd(model, losses, "MGDA", shortcut=True, optimizer=adam)


def main() -> int:
    torch.manual_seed(0)
    print(f"torch {torch.__version__}, {torch.cuda.get_device_name()}")
    print("\nLeNet, m = 2, batch 256, Adam (capturable): ms a step", flush=True)
    images = torch.randn(256, 1, 28, 28, device=DEVICE)
    batch = (images, torch.randint(10, (2, 256), device=DEVICE))
    step_table(LeNet, batch, 2, ("MGDA", "ParetoMTL", "LinearScalarization", "EPO"))
    for tasks in (2, 4, 8):
        print(f"\n1e8 parameters, m = {tasks}, batch 32, Adam (capturable): ms a step", flush=True)
        x, targets = torch.randn(32, 10_000, device=DEVICE), torch.randn(32, tasks, device=DEVICE)
        step_table(lambda tasks=tasks: Wide(tasks), (x, targets), tasks, ("MGDA", "EPO"))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
