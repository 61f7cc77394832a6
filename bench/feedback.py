"""Preference by feedback, FERERO's single loop, Tchebycheff and linear weights against EPO.

    python bench/feedback.py synthetic              distance to the exact point
    python bench/feedback.py riverflow --data DIR   8 tasks, 12 preferences used for no choice
    python bench/feedback.py images                 20 tasks on pairs of digits

Everything is seeded. Learning rates, and the two documented integral gains of feedback, are chosen
by the mean worst relative loss on preferences of seed 1; the results are on preferences of seed 3,
which nothing was chosen on. "Equal time": EPO gets the steps that fit into the processor time of
linear weights. Hypervolumes are fractions of the box from 0 to a reference: on River Flow the loss
of the mean as prediction, elsewhere 1.1 times the worst loss of each task in the table.
"""

import argparse
import itertools
import time
from functools import partial

import numpy as np
import torch
from sets import load
from torch import nn

import pyfront
from pyfront.datasets import multi_digits
from pyfront.functional import non_uniformity
from pyfront.problems import ConcaveProblem, QuadraticProblem

TUNING, SYNTHETIC, EVALUATION = 1, 2, 3  # seeds of the preferences

TIMED = ("epo", "epo-smoothed")
GAINS = {"feedback": ({"integral": 0.01}, {"integral": 0.03})}  # what is chosen beside the rate
METHODS = {
    "linear": pyfront.LinearScalarization,
    "smooth-tchebycheff": partial(pyfront.SmoothTchebycheff, smoothing=0.1),
    "epo": pyfront.EPO,
    "epo-smoothed": partial(pyfront.EPO, weight_smoothing=0.9),
    "ferero": pyfront.FERERO,
    "feedback": partial(pyfront.PreferenceFeedback, gains="fixed", floor=1e-6),
}


# ---------------------------------------------------------------------------- synthetic problems


def synthetic_methods():
    return {
        "epo": lambda base, r: pyfront.EPO(base, r),
        "epo-adaptive": lambda base, r: pyfront.EPO(base, r, epsilon="adaptive"),
        "ferero": lambda base, r: pyfront.FERERO(base, r, gain=2.0),
        "smooth-tchebycheff": lambda base, r: pyfront.SmoothTchebycheff(base, r, smoothing=0.01),
        "feedback": lambda base, r: pyfront.PreferenceFeedback(
            base, r, averaging=0.0, integral=0.3, floor=1e-6
        ),
    }


def descend(problem, make, r, start, lr, steps=None, seconds=None):
    theta = nn.Parameter(start.clone())
    opt = make(torch.optim.SGD([theta], lr=lr), r)
    began, done = time.process_time(), 0
    while done < steps if seconds is None else time.process_time() - began < seconds:
        opt.step(problem.losses(theta))
        done += 1
    losses = problem.losses(theta.detach())
    return losses, time.process_time() - began, done


def measured(problem, preferences, run):
    """Medians of largest relative error, seconds and steps of `run(r)`, and the points."""
    rows = [(r, *run(r)) for r in preferences]
    figures = [
        (((losses - problem.point(r)).abs() / problem.point(r)).max().item(), took, steps)
        for r, losses, took, steps in rows
    ]
    return *np.median(np.array(figures), axis=0), [losses for _, losses, _, _ in rows]


def synthetic(args):
    """Full gradients and SGD: largest relative error of a loss, median over 3 preferences."""
    for m, n in ((2, 20), (8, 8), (8, 10_000), (20, 20), (20, 10_000)):
        if args.tasks not in (None, m):
            continue
        problem = ConcaveProblem(n=n) if m == 2 else QuadraticProblem(m, n=n)
        rng = np.random.default_rng(SYNTHETIC)
        spread = 0.5 if m == 2 else 0.3 / m  # the front of many tasks meets few rays
        preferences = [(1 + spread * rng.uniform(-1, 1, m)).tolist() for _ in range(3)]
        start = problem.start(seed=3) if m == 2 else torch.zeros(n).double()
        if m > 2:
            start[:m] = torch.linspace(0.8, 0.1, m)
        makers = synthetic_methods()
        allowed, table = None, {}
        for name in ("feedback", *(key for key in makers if key != "feedback")):
            run = partial(descend, problem, makers[name], start=start, lr=0.1)
            error, took, _, equal = measured(problem, preferences, partial(run, steps=300))
            allowed = allowed or took
            late, _, steps, timed = measured(problem, preferences, partial(run, seconds=allowed))
            table |= {f"{name}, 300 steps": equal, f"{name}, equal time": timed}
            print(
                f"m={m:2} n={n:6} {name:19} 300 steps: error {error:.1e} in {took:5.2f} s"
                f"   in {allowed:4.2f} s: error {late:.1e} after {steps:.0f} steps",
                flush=True,
            )
        show_hypervolumes(table)


# ------------------------------------------------------------------------------ two sets of data


class Rivers(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 8)
        )

    def forward(self, batch):
        x, y = batch
        return 0.5 * (self.net(x) - y).square().mean(dim=0)


def digit_presence():
    """Which of 10 digits is top-left, which bottom-right: 20 yes-or-no tasks."""
    digits = multi_digits(train=6000, test=2000)
    return [
        (images, torch.cat([nn.functional.one_hot(y, 10) for y in labels.T], dim=1).float())
        for images, labels in (
            (digits.train_images, digits.train_labels),
            (digits.test_images, digits.test_labels),
        )
    ]


class Presence(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(1, 8, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 16, 3), nn.ReLU(),
            nn.Flatten(), nn.Linear(144, 64), nn.ReLU(), nn.Linear(64, 20),
        )  # fmt: skip

    def forward(self, batch):
        x, y = batch
        losses = nn.functional.binary_cross_entropy_with_logits(self.net(x), y, reduction="none")
        return losses.mean(dim=0)


def train(model_class, parts, make, r, lr, steps, seed=0, seconds=None):
    """Test losses, and the seconds and steps that training took."""
    torch.manual_seed(seed)
    model = model_class()
    opt = make(torch.optim.Adam(model.parameters(), lr=lr), r)
    (x, y), test = parts
    generator = torch.Generator().manual_seed(seed)
    began, done = time.process_time(), 0
    while done < steps and (seconds is None or time.process_time() - began < seconds):
        chosen = torch.randint(len(x), (128,), generator=generator)
        progress = done / steps if seconds is None else (time.process_time() - began) / seconds
        for group in opt.param_groups:
            group["lr"] = lr * max(1.0 - progress, 0.0)
        opt.step(model((x[chosen], y[chosen])))
        done += 1
    took = time.process_time() - began
    with torch.no_grad():
        return model(test).double(), took, done


def tuned(model_class, parts, name, preferences, rates, steps, score):
    """The method and the rate of least mean score over the tuning preferences."""

    def mean_score(candidate):
        options, lr = candidate
        make = partial(METHODS[name], **options)
        found = [train(model_class, parts, make, r, lr, steps)[0] for r in preferences]
        return np.mean([score(losses, r) for losses, r in zip(found, preferences, strict=True)])

    return min(itertools.product(GAINS.get(name, ({},)), rates), key=mean_score)


def preferences(m, count, seed):
    """Uniform in [0.1, 1]^m, scaled to sum 1: no task matters more than ten times another."""
    r = np.random.default_rng(seed).uniform(0.1, 1.0, (count, m))
    return r / r.sum(axis=1, keepdims=True)


def worst(losses, r):
    return (torch.as_tensor(r) * losses).max().item()


def hypervolume(points, reference):
    """Exact, by inclusion and exclusion over the points; fraction of the box [0, reference]."""
    points = torch.stack(points).numpy() / reference.numpy()
    total = 0.0
    for size in range(1, len(points) + 1):
        for chosen in itertools.combinations(points, size):
            volume = np.clip(1.0 - np.max(chosen, axis=0), 0.0, None).prod()
            total += volume if size % 2 else -volume
    return total


def show_hypervolumes(table, reference=None):
    said = "the loss of the mean as prediction"
    if reference is None:
        reference = 1.1 * torch.stack(list(itertools.chain(*table.values()))).amax(dim=0)
        said = "1.1 times the worst loss of each task in this table"
    print(f"    hypervolume, reference {said}:")
    for name, points in table.items():
        print(f"    {hypervolume(points, reference):9.4g} {name}", flush=True)


def compare(model_class, parts, names, rates, steps, count, tuning, timed, reference=None):
    m = parts[0][1].shape[1]
    sampled, fresh = (
        preferences(m, k, seed) for k, seed in ((tuning, TUNING), (count, EVALUATION))
    )
    linear, limit, table = None, None, {}
    for name in names:
        options, lr = tuned(model_class, parts, name, sampled, rates, steps, worst)
        make = partial(METHODS[name], **options)
        label = " ".join([name, *(f"{key} {value:g}" for key, value in options.items())])

        def on_fresh(seconds, make=make, lr=lr):
            at_most = steps if seconds is None else 10**9
            return [train(model_class, parts, make, r, lr, at_most, seed=10 + i, seconds=seconds)
                    for i, r in enumerate(fresh)]  # fmt: skip

        runs = on_fresh(None)
        table[label] = show(label, lr, runs, fresh, linear)
        if linear is None:
            linear = [worst(row[0], r) for row, r in zip(runs, fresh, strict=True)]
            limit = np.median([row[1] for row in runs])
        if name in timed:
            label += ", equal time"
            table[label] = show(label, lr, on_fresh(limit), fresh, linear)
    show_hypervolumes(table, reference)


def show(name, lr, runs, preferences, linear):
    """Prints a method's figures and returns its points."""
    losses = [row[0] for row in runs]
    took, steps = (np.median([row[i] for row in runs]) for i in (1, 2))
    pairs = list(zip(losses, preferences, strict=True))
    uneven = [non_uniformity(row, r) for row, r in pairs]
    highest = [worst(row, r) for row, r in pairs]
    wins = "" if linear is None else f"  below linear's on {sum(np.less(highest, linear))}"
    mean = np.mean([row.mean().item() for row in losses])
    print(
        f"{name:25} lr {lr:<6g} {steps:5.0f} steps {took:6.1f} s"
        f"  non-uniformity {np.mean(uneven):.4f}  worst r·l {np.mean(highest):.5f}{wins}"
        f"  mean loss {mean:.4f}"
    )
    print("    non-uniformity", *(f"{value:.4f}" for value in uneven))
    print("    worst r·l     ", *(f"{value:.5f}" for value in highest), flush=True)
    return losses


def riverflow(args):
    names = ("linear", "feedback", "epo", "epo-smoothed", "ferero")
    rows = load("riverflow-all" if args.broken else "riverflow", args.data)
    compare(
        Rivers, (rows.train, rows.test), args.methods or names, (0.01, 0.02, 0.04),
        args.steps or 1000, 12, 4, TIMED, reference=0.5 * torch.ones(8).double(),
    )  # fmt: skip


def images(args):
    names = ("linear", "feedback", "epo", "epo-smoothed", "ferero")
    compare(
        Presence, digit_presence(), args.methods or names, (0.003, 0.01), args.steps or 1000, 4, 1,
        TIMED,
    )  # fmt: skip


if __name__ == "__main__":
    torch.set_num_threads(1)
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("synthetic", "riverflow", "images"))
    parser.add_argument("--data", help="folder that holds riverflow/rf1.arff.gz")
    parser.add_argument("--broken", action="store_true", help="keep River Flow's broken rows")
    parser.add_argument("--steps", type=int)
    parser.add_argument("--tasks", type=int, help="the synthetic problems of so many tasks alone")
    parser.add_argument("--methods", nargs="+", choices=METHODS)
    arguments = parser.parse_args()
    if arguments.what == "riverflow" and arguments.data is None:
        parser.error("riverflow needs --data")
    {"synthetic": synthetic, "riverflow": riverflow, "images": images}[arguments.what](arguments)
