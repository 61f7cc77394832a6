"""Preference control against linear weights: gains, floors, learning-rate schedules, stability.

    python bench/control.py table --data DIR [--sets digits teacher ...]   training and test losses
    python bench/control.py stability                                     the loop in simulation

Many small nets train at once: parameters are stacked and one backward pass of the sum of all runs'
weighted losses gives each its own gradient, so that each run is what it would be alone. Weights
come from pyfront.control on the values of the losses. Every run of a set has the same steps.
The learning rate (one grid for all) is chosen for each method by its mean worst relative training
loss on preferences of seed 1 and training seed 0; the figures are of preferences of seed 3 and
three other training seeds.
"""

import argparse
import itertools
import math
import time
from pathlib import Path

import numpy as np
import torch
from fairness import adult_features, adult_table
from feedback import digit_presence
from sets import Rows, images, load
from torch import nn

from pyfront.control import PreferenceController
from pyfront.functional import non_uniformity

RATES = (0.003, 0.01, 0.03)
SEEDS = (1, 2, 3)
TUNING, EVALUATION = 3, 6  # preferences
METHODS = {
    "linear": None,
    "k = 3, i = .03": {"integral": 0.03, "floor": 1e-6, "scheduled": False},
    "k = f, i = .005 f": {"proportional": 1.0, "floor": 1e-6},
    "k = 3, i = .005": {"floor": 1e-6, "scheduled": False},
    "k = 3 f, i = .005 f": {"floor": 1e-6},
    "the same, floor .02": {"floor": 0.02},
    "the same, floor .05": {},
    "the same, floor .1": {"floor": 0.1},
}
DEFAULT = "the same, floor .05"
FIXED = "suggested constant weights"


# ------------------------------------------------------------------------------------------- data

HIDDEN = {  # width of the one hidden layer
    "digits": 8,
    "teacher": 12,
    "multi-fashion-mnist": 24,
    "census": 16,
    "multi-digits": 24,
    "riverflow": 32,
    "emotions": 16,
    "presence": 24,
    "adult": 16,
}


def rows_of(name, directory):
    """Flat inputs, targets, number of training rows, widths of the layers, and the losses."""
    if name == "multi-fashion-mnist":
        rows = images(Path(directory), name, train=8000, test=2000)
    elif name == "presence":
        rows = presence()
    elif name == "adult":
        rows = adult(Path(directory))
    else:
        rows = load(name, directory)
    x = rows.x.flatten(1)
    outputs = 20 if rows.kind == "classes" else rows.tasks
    measure = {"binary": binary, "squares": squares, "classes": two_labels}[rows.kind]
    return x, rows.y, rows.count, (x.shape[1], HIDDEN[name], outputs), measure


def presence():
    """Which of 10 digits is top-left in a picture, which bottom-right: 20 yes-or-no tasks."""
    (x, y), (tests, targets) = digit_presence()
    images = torch.cat([x, tests])
    images = (images - x.mean()) / x.std()
    return Rows(images, torch.cat([y, targets]), len(x), "binary")


def adult(directory):
    """Income, never married, more than 40 hours a week: entropy floors, most rays out of reach."""
    table, count = adult_table(directory)
    rich = np.char.startswith(table[:, 14].astype(str), ">50K")
    y = [rich, table[:, 5] == "Never-married", table[:, 12].astype(float) > 40]
    x = adult_features(table, count, set(range(14)) - {2, 3, 5, 7, 12})
    y = torch.from_numpy(np.stack(y, axis=1).astype(np.float32))
    return Rows(x, y, count, "binary")


# ------------------------------------------------------------------------------------ stacked runs


def binary(out, y):
    y = y.expand(len(out), -1, -1)
    losses = nn.functional.binary_cross_entropy_with_logits(out, y, reduction="none")
    return losses.mean(dim=1)


def squares(out, y):
    return 0.5 * (out - y).square().mean(dim=1)


def two_labels(out, y):
    runs, rows = out.shape[:2]
    losses = [
        nn.functional.cross_entropy(
            out[:, :, 10 * task : 10 * task + 10].reshape(-1, 10),
            y[:, task].repeat(runs),
            reduction="none",
        ).view(runs, rows)
        for task in (0, 1)
    ]
    return torch.stack(losses, dim=2).mean(dim=1)


def initial(sizes, runs, seed):
    """The same start for each run."""
    generator = torch.Generator().manual_seed(seed)
    params = []
    for inputs, outputs in itertools.pairwise(sizes):
        for shape in ((inputs, outputs), (1, outputs)):
            values = (2 * torch.rand(shape, generator=generator) - 1) / math.sqrt(inputs)
            params.append(nn.Parameter(values.repeat(runs, 1, 1)))
    return params


def forward(params, x):
    first, bias, second, last = params
    hidden = torch.relu(torch.matmul(x, first) + bias)
    return torch.bmm(hidden, second) + last


def train(data, weighers, lr, decay, seed, steps):
    """Training and test losses, [runs, m] each; run j takes its weights from weighers[j]."""
    x, y, count, sizes, measure = data
    params = initial(sizes, len(weighers), seed)
    opt = torch.optim.Adam(params, lr=lr, fused=True)
    generator = torch.Generator().manual_seed(1000 + seed)
    for step in range(steps):
        rate = lr * (0.5 + 0.5 * math.cos(math.pi * step / steps)) if decay else lr
        opt.param_groups[0]["lr"] = rate
        rows = torch.randint(count, (128,), generator=generator)
        losses = measure(forward(params, x[rows]), y[rows])
        values = losses.detach().double().numpy()
        weights = [weigh(row, rate) for weigh, row in zip(weighers, values, strict=True)]
        opt.zero_grad()
        (losses * torch.from_numpy(np.stack(weights)).float()).sum().backward()
        opt.step()
    with torch.no_grad():
        parts = (slice(0, min(count, 5000)), slice(count, None))
        return [measure(forward(params, x[part]), y[part]).double().numpy() for part in parts]


def preferences(m, count, seed):
    """Uniform in [0.1, 1]^m, scaled to sum 1: no task matters more than ten times another."""
    r = np.random.default_rng(seed).uniform(0.1, 1.0, (count, m))
    return r / r.sum(axis=1, keepdims=True)


class Constant:
    def __init__(self, weights):
        self.fixed = weights

    def __call__(self, losses, rate):
        return self.fixed


class Controlled:
    def __init__(self, r, options):
        self.controller = PreferenceController(r, **options)

    def __call__(self, losses, rate):
        return self.controller.weights(losses, rate=rate)


def weigher(name, r):
    return Constant(r) if METHODS[name] is None else Controlled(r, METHODS[name])


def figures(losses, r):
    """Non-uniformity, worst relative loss, mean loss."""
    return non_uniformity(losses, r), (r * losses).max(), losses.mean()


def tuned(data, names, decay, steps):
    """For each method, the rate of least mean worst relative training loss."""
    tasks = preferences(tasks_of(data), TUNING, 1)
    found = {name: [] for name in names}
    for lr in RATES:
        weighers = [weigher(name, r) for name in names for r in tasks]
        losses, _ = train(data, weighers, lr, decay, 0, steps)
        rows = losses.reshape(len(names), TUNING, -1)
        for name, row in zip(names, rows, strict=True):
            found[name].append((tasks * row).max(axis=1).mean())
    return {name: RATES[int(np.argmin(scores))] for name, scores in found.items()}


def tasks_of(data):
    return 2 if data[4] is two_labels else data[3][-1]


def evaluated(data, rates, decay, steps):
    """{method: [seeds, preferences, 2 parts, 3 figures]} and the share of rays out of reach."""
    tasks = preferences(tasks_of(data), EVALUATION, 3)
    found = {name: [] for name in (*rates, FIXED)}
    unreachable = []
    for seed in SEEDS:
        for lr in sorted(set(rates.values())):
            names = [name for name in rates if rates[name] == lr]
            weighers = [weigher(name, r) for name in names for r in tasks]
            parts = train(data, weighers, lr, decay, seed, steps)
            collect(found, names, parts, tasks)
            if DEFAULT in names:
                first = names.index(DEFAULT) * EVALUATION
                chosen = [w.controller for w in weighers[first : first + EVALUATION]]
                unreachable += [c.decision.status == "unreachable" for c in chosen]
                constant = [Constant(c.suggest_weights().weights) for c in chosen]
        parts = train(data, constant, rates[DEFAULT], decay, seed, steps)
        collect(found, [FIXED], parts, tasks)
    return {name: np.array(rows) for name, rows in found.items()}, np.mean(unreachable)


def collect(found, names, parts, tasks):
    for place, name in enumerate(names):
        rows = slice(place * EVALUATION, (place + 1) * EVALUATION)
        found[name].append(
            [
                [figures(part[rows][j], r) for part in parts]
                for j, r in enumerate(tasks)
            ]
        )  # fmt: skip


def table(args):
    for name in args.sets:
        data = rows_of(name, args.data)
        for decay in {"cosine": (True,), "constant": (False,), "both": (True, False)}[args.rate]:
            began = time.process_time()
            rates = tuned(data, list(METHODS), decay, args.steps)
            found, unreachable = evaluated(data, rates, decay, args.steps)
            print(
                f"\n{name}, m = {tasks_of(data)}, {'cosine' if decay else 'constant'} rate: "
                f"{unreachable:.0%} of rays reported out of reach, "
                f"{time.process_time() - began:.0f} s\n"
            )
            show(found, rates)


def show(found, rates):
    print(
        "| | rate | μ | ± | μ, linear's = 1 | worst r·l | below | test | below | mean loss | test |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    base = found["linear"]
    for name, rows in found.items():
        mean, linear = rows.mean(axis=(0, 1)), base.mean(axis=(0, 1))
        spread = rows[:, :, 0, 0].mean(axis=1).std()
        below = (rows[..., 1] < base[..., 1]).sum(axis=(0, 1))
        ratio = mean / linear
        cells = [
            f"{rates.get(name, rates[DEFAULT]):g}", f"{mean[0, 0]:.4f}", f"{spread:.4f}",
            f"{ratio[0, 0]:.3f}", f"{ratio[0, 1]:.3f}", below[0], f"{ratio[1, 1]:.3f}", below[1],
            f"{ratio[0, 2]:.3f}", f"{ratio[1, 2]:.3f}",
        ]  # fmt: skip
        print(f"| {name} | {' | '.join(map(str, cells))} |", flush=True)


# -------------------------------------------------------------------------------------- stability


def simulated(rate, delay, noise, *, averaging=0.9, steps=4000, seed=0, **options):
    """Root mean square of the true log error at the end of a run of two tasks.

    One number x is the log of the losses' ratio. A step moves it by −rate · (w₁ − w₂ − c), where c
    is what keeps the ratio at rest, `delay` steps after the weights were decided; the losses are
    seen with independent relative noise.
    """
    rng = np.random.default_rng(seed)
    controller = PreferenceController([1.0, 1.0], averaging=averaging, **options)
    x, pending, path = 1.0, [0.0] * delay, []
    for _ in range(steps):
        seen = np.exp(np.array([x / 2, -x / 2]) + noise * rng.normal(size=2))
        w = controller.weights(seen, rate=1.0)
        pending.append(float(w[0] - w[1]))
        x -= rate * (pending.pop(0) - 0.5)
        path.append(x)
    return float(np.sqrt(np.mean(np.square(path[-steps // 4 :]))))


def stability(_):
    """k ρ T for the default gains is printed beside the error; the rule of thumb asks for ≤ 1/2."""
    print(
        "| rate per step | delay | k ρ T | noise 0 | noise .1 | noise .5 | noise 0, averaging 0 |"
    )
    print("|---|---|---|---|---|---|---|")
    for rate in (0.003, 0.01, 0.03, 0.1, 0.3):
        for delay in (0, 9, 30):
            cells = [simulated(rate, delay, noise) for noise in (0.0, 0.1, 0.5)]
            cells.append(simulated(rate, delay, 0.0, averaging=0.0))
            product = 3.0 * rate * (1 + 9 + delay) / 2  # two tasks: dw/dz is 1/2 of k at w = 1/2
            print(
                f"| {rate} | {delay} | {product:.2f} | "
                + " | ".join(f"{cell:.3f}" for cell in cells)
                + " |",
                flush=True,
            )


if __name__ == "__main__":
    torch.set_num_threads(1)
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("table", "stability"))
    parser.add_argument("--data", help="folder with census, emotions, mnist, riverflow, …")
    parser.add_argument("--sets", nargs="+", choices=HIDDEN, default=list(HIDDEN))
    parser.add_argument("--rate", choices=("cosine", "constant", "both"), default="both")
    parser.add_argument("--steps", type=int, default=600)
    arguments = parser.parse_args()
    if arguments.what != "stability" and arguments.data is None:
        parser.error("--data is needed")
    {"table": table, "stability": stability}[arguments.what](arguments)
