"""One training run of the papers' experiments: network, method, budget, and what came out.

Every run of a set has the same start, batches and number of steps for its seed: Adam with a
learning rate that falls to 0 along a cosine.
"""

import json
import sys
import time
from pathlib import Path
from typing import NamedTuple

import torch

import pyfront

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the benchmarks' own modules
from networks import LeNet, Perceptron
from sets import SETS, load

__all__ = [
    "BATCH",
    "FULL_BATCH",
    "METHODS",
    "ONE_PASS",
    "SETS",
    "Run",
    "load",
    "network",
    "train",
]

BATCH, FULL_BATCH = 128, 256
SHORT = {"channels": (8, 16), "kernel": 3, "padding": 1, "features": 50}  # of LeNet
HIDDEN = {
    "riverflow": (32, 16, 8),
    "riverflow-all": (32, 16, 8),
    "teacher-8": (32, 16, 8),
    "census-3": (64, 32),
    "census-3-full": (1024, 128),
    "census-20": (24,),
    "emotions": (32,),
    "digits": (16,),
    "digits-3": (4,),
}
MEASURED = 5000  # training rows on which the training losses are taken


class Run(NamedTuple):
    """What one run is; equal runs are trained once.

    options: what the method is given: "preference", or "vectors" and "index", or "task"; "trace" is
    the number of times that the weights are written down.
    """

    data: str
    method: str
    options: dict
    rate: float
    seed: int
    steps: int

    @property
    def key(self):
        return json.dumps(self._asdict(), sort_keys=True)


def network(rows):
    """The paper's LeNet for 28 × 28 pictures and a smaller one for smaller; else a perceptron."""
    if rows.x.dim() == 4:
        size = rows.x.shape[-1]
        return LeNet(size) if size == 28 else LeNet(size, **SHORT)
    classes = int(rows.y.max()) + 1 if rows.kind == "classes" else None
    return Perceptron(rows.x.shape[1], HIDDEN[rows.name], rows.tasks, classes)


def regions(share):
    """Pareto MTL, of whose steps at most so large a share looks for the region (phase 1)."""

    def make(base, net, run, rows):
        vectors = torch.tensor(run.options["vectors"], dtype=torch.float64)
        steps = round(share * run.steps)
        return pyfront.ParetoMTL(base, vectors, run.options["index"], warmup_steps=steps)

    return make


def by_preference(method, **options):
    return lambda base, net, run, rows: method(base, run.options["preference"], **options)


def uncertainty(base, net, run, rows):
    kind = "regression" if rows.kind == "squares" else "classification"
    return pyfront.UncertaintyWeighting(base, rows.tasks, likelihood=kind)


#: name → how it wraps a base optimizer. Weights of linear, EPO, feedback and MGDA sum to 1,
#: GradNorm's to m; those of Pareto MTL and uncertainty have no fixed sum. Adam takes the scale out.
METHODS = {
    "linear": by_preference(pyfront.LinearScalarization),
    "EPO": by_preference(pyfront.EPO),
    "EPO, smoothed": by_preference(pyfront.EPO, weight_smoothing=0.9),
    "feedback": by_preference(pyfront.PreferenceFeedback),
    "feedback, constant": by_preference(pyfront.PreferenceFeedback, gains="fixed"),
    "Pareto MTL": regions(0.05),
    "Pareto MTL, no phase 1": regions(0.0),
    "MGDA": lambda base, net, run, rows: pyfront.MGDA(base),
    "GradNorm": lambda base, net, run, rows: pyfront.GradNorm(
        base, alpha=1.5, lr=0.025, gramian_over=[net.last_shared.weight]
    ),
    "uncertainty": uncertainty,
    "single task": lambda base, net, run, rows: pyfront.LinearScalarization(base, [1.0]),
}
ONE_PASS = ("linear", "feedback", "feedback, constant", "uncertainty", "single task")


def train(run, directory=None):
    """Train, and return the run with its losses, accuracies, seconds and weights as JSON values."""
    rows = load(run.data, directory)
    torch.manual_seed(run.seed)
    net = network(rows)
    base = torch.optim.Adam(net.parameters(), lr=run.rate, fused=True)
    opt = METHODS[run.method](base, net, run, rows)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(base, run.steps)
    generator = torch.Generator().manual_seed(1000 + run.seed)
    (x, y), only = rows.train, run.options.get("task")
    batch = FULL_BATCH if run.data.endswith("-full") else BATCH
    every = max(run.steps // run.options.get("trace", 1), 1)
    weights, began = [], time.process_time()
    for step in range(run.steps):
        chosen = torch.randint(len(x), (batch,), generator=generator)
        losses = rows.losses(net(x[chosen]), y[chosen])
        report = opt.step(losses if only is None else [losses[only]])
        schedule.step()
        if "trace" in run.options and step % every == 0:
            weights.append(report.weights.tolist())
    result = {**run._asdict(), "seconds": time.process_time() - began, "status": report.status}
    if weights:
        result["weights"] = weights
    if isinstance(opt, pyfront.PreferenceFeedback):
        found = opt.suggest_weights().weights
        result["suggested"] = [float(w) for w in found / found.sum()]
    return result | measured(net, rows)


@torch.no_grad()
def measured(net, rows):
    """Losses on training and test rows, and accuracies on test rows."""
    net.eval()
    found = {}
    for part, (x, y) in (("train", rows.train), ("test", rows.test)):
        x, y = (x[:MEASURED], y[:MEASURED]) if part == "train" else (x, y)
        outputs = [net(some) for some in x.split(1000)]
        if rows.kind == "classes":
            out = [torch.cat(z) for z in zip(*outputs, strict=True)]
        else:
            out = torch.cat(outputs)
        found[part] = [float(loss) for loss in rows.losses(out, y)]
        found["accuracy"] = rows.accuracies(out, y)
    return found
