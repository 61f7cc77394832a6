"""The experiments of "Controllable Pareto Multi-Task Learning" (Lin et al. 2020), shortened.

    python bench/papers/controllable.py --out DIR [--data DIR] [--only NAME ...] [--length 1.0]

`synthetic`: problem (22), the generated curve against the true front at 101 preferences; distance
and gap are the largest from a point of the one to the nearest of the other.
`digits`, `mnist`: one network for every trade-off against 5 separately trained EPO models at equal
total steps: MultiDigits, and MultiMNIST with the paper's LeNet, Adam 3e-4 and batch 256.
`census`: 20 tasks (columns of the census, in place of CIFAR-100) on a small network that switches
to the preference of the task it predicts.

Each writes a table and a picture. `--length` multiplies all numbers of steps; MultiMNIST at the
paper's 200 epochs of 120 000 pictures is `--length 52`, since 1800 steps are the default.
"""

import argparse
import functools
import math
import time
from pathlib import Path

import census
import numpy as np
import torch
from generator_training import METHODS, even, task_losses, train
from matplotlib.figure import Figure
from torch import nn

import pyfront
from pyfront import preferences
from pyfront.datasets import multi_digits, multi_mnist
from pyfront.problems import SineProblem

# ---------------------------------------------------------------------------------------- synthetic


class Point(nn.Module):
    """A main network that is nothing but its parameters θ."""

    def __init__(self, problem):
        super().__init__()
        self.problem = problem
        self.theta = nn.Parameter(torch.randn(problem.n))

    def forward(self):
        return self.problem.losses(self.theta)


def synthetic(args):
    """Distance to the front, largest gap of the front to the curve, angle to the preference."""
    problem, steps = SineProblem(n=10), round(16_000 * args.length)
    front = problem.front(2001).float()
    directions = preferences.circle(101).float()
    lines = [f"synthetic problem (22), {steps} steps, 101 preferences"]
    lines.append(f"{'':26} distance   gap  angle°  (largest)  seconds")
    figure = Figure(figsize=(7, 6), layout="constrained")
    axes = figure.add_subplot(xlabel="loss of task 1", ylabel="loss of task 2")
    axes.plot(*front.T, color="0.8", linewidth=7, label="true front")
    for method in list(METHODS)[:6]:
        torch.manual_seed(args.seed)
        net = pyfront.HyperNetwork(Point(problem), 2, plain=True)
        begin = time.perf_counter()
        count = 8 if method == "proportional, 8 a step" else 1
        train(
            *(net, method, lambda net, p: torch.cat(net(preference=p)), steps, 1e-3),
            functools.partial(preferences.sample, 2, count),
        )
        seconds = time.perf_counter() - begin
        with torch.no_grad():  # m = 2: 1/u has the direction of u with its entries exchanged
            curve = torch.stack(net(preference=directions.flip(1)))
        apart = torch.cdist(curve, front)
        cosine = torch.cosine_similarity(curve, directions, dim=1).clamp(-1.0, 1.0)
        angles = torch.rad2deg(torch.arccos(cosine))
        lines.append(
            f"{method:26} {apart.amin(1).max():8.3f} {apart.amin(0).max():5.3f} "
            f"{angles.mean():7.2f} {angles.max():10.2f} {seconds:8.0f}"
        )
        print(lines[-1], flush=True)
        axes.plot(*curve.T, marker=".", linewidth=0.8, markersize=4, label=method)
    axes.legend()
    return lines, figure


# ---------------------------------------------------------------------------- two items, two digits


class LeNet(nn.Module):
    """Two convolutions, one hidden layer, a head a task; `LeNet(28)` has 84K parameters."""

    def __init__(self, size, channels=(10, 20), kernel=5, padding=0, features=230):
        super().__init__()
        side = size
        for _ in range(2):
            side = (side + 2 * padding - kernel + 1) // 2
        self.trunk = nn.Sequential(
            *(nn.Conv2d(1, channels[0], kernel, padding=padding), nn.MaxPool2d(2), nn.ReLU()),
            *(nn.Conv2d(*channels, kernel, padding=padding), nn.MaxPool2d(2), nn.ReLU()),
            *(nn.Flatten(), nn.Linear(channels[1] * side**2, features), nn.ReLU()),
        )
        self.heads = nn.ModuleList(nn.Linear(features, 10) for _ in range(2))

    def forward(self, images):
        z = self.trunk(images)
        return [head(z) for head in self.heads]


@torch.no_grad()
def measure(model, images, labels):
    """Losses and accuracies of both tasks on a whole set."""
    parts = zip(*map(model, images.split(1000)), strict=True)
    logits = [torch.cat(part) for part in parts]
    hits = [(z.argmax(1) == labels[:, t]).double().mean().item() for t, z in enumerate(logits)]
    return [loss.item() for loss in task_losses(logits, labels)], hits


def along_the_front(name, model_for, rays, data):
    """A `Front` of one model a ray; `model_for(r)` gives the model for a preference."""
    front = pyfront.Front()
    for r in rays:
        model = model_for(r)
        test, accuracies = measure(model, data.test_images, data.test_labels)
        train_losses, _ = measure(model, data.train_images, data.train_labels)
        metrics = {f"accuracy_{task + 1}": value for task, value in enumerate(accuracies)}
        front.add(
            pyfront.Solution(
                method=name,
                preference=r,
                train_losses=train_losses,
                test_losses=test,
                metrics=metrics,
            )
        )
    return front


def rays_between(count):
    """Preferences whose rays l ∝ 1/r are evenly spread inside the quadrant."""
    inverse = 1.0 / preferences.circle(count + 2)[1:-1]
    return (inverse / inverse.sum(dim=1, keepdim=True)).tolist()


def two_items(args, data, make, total, rate, size):
    """One network along 21 preferences against 5 EPO models, both with `total` steps in all."""
    steps = max(round(total * args.length) // 5, 1)

    def batch():
        chosen = torch.randint(len(data.train_images), (256,))
        return data.train_images[chosen], data.train_labels[chosen]

    def losses(net, p):
        images, labels = batch()
        return task_losses(net(images, preference=p), labels)

    def separate(r):
        torch.manual_seed(args.seed)
        model = make()
        base = torch.optim.Adam(model.parameters(), lr=rate)
        opt = pyfront.EPO(base, r, weight_smoothing=0.9)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(base, steps)
        for _ in range(steps):
            images, labels = batch()
            opt.step(task_losses(model(images), labels))
            schedule.step()
        return model

    fronts, seconds = {}, {}
    begin = time.perf_counter()
    fronts["5 EPO models"] = along_the_front("5 EPO models", separate, rays_between(5), data)
    seconds["5 EPO models"] = time.perf_counter() - begin
    for method in ("linear", "proportional, k = 10"):
        torch.manual_seed(args.seed)
        net = pyfront.HyperNetwork(make(), 2, size=size)
        name = f"one network, {method}"
        begin = time.perf_counter()
        train(net, method, losses, 5 * steps, rate, lambda: preferences.sample(2, 1)[0])
        seconds[name] = time.perf_counter() - begin
        fronts[name] = along_the_front(name, net.generate, rays_between(21), data)
    return compare(data.name, fronts, seconds, 5 * steps, make, net)


def compare(name, fronts, seconds, steps, make, net):
    everything = [row for front in fronts.values() for row in front.losses("test")]
    reference = 1.1 * np.max(everything, axis=0)
    count = sum(p.numel() for p in make().parameters())
    trained = sum(p.numel() for p in net.parameters())
    lines = [
        f"{name}: {steps} steps in all for each row, batch 256; the model has {count} parameters, "
        f"the hypernetwork {trained}",
        f"{'':34} hypervolume (test)  models  best accuracy 1, 2   balanced 1, 2   "
        "non-uniformity  seconds",
    ]
    figure = Figure(figsize=(11, 5), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.set(xlabel="test loss of task 1", ylabel="test loss of task 2", title=name)
    right.set(xlabel="test accuracy of task 1", ylabel="test accuracy of task 2")
    for label, front in fronts.items():
        hits = np.array([[s.metrics["accuracy_1"], s.metrics["accuracy_2"]] for s in front])
        middle = 100 * hits[len(front) // 2]
        spread = [pyfront.functional.non_uniformity(s.test_losses, s.preference) for s in front]
        lines.append(
            f"{label:34} {front.hypervolume(reference, 'test'):18.4f} {len(front):7} "
            f"{100 * hits[:, 0].max():12.1f} {100 * hits[:, 1].max():6.1f} "
            f"{middle[0]:10.1f} {middle[1]:5.1f} {np.mean(spread):14.4f} {seconds[label]:9.0f}"
        )
        mark = "s" if len(front) == 5 else "."
        left.plot(*front.losses("test").T, marker=mark, linewidth=0.8, label=label)
        right.plot(*hits.T, marker=mark, linewidth=0.8, label=label)
    lines.append(f"reference of the hypervolume: ({reference[0]:.4f}, {reference[1]:.4f})")
    left.legend()
    return lines, figure


def digits(args):
    data = multi_digits(seed=args.seed)
    shape = {"channels": (8, 16), "kernel": 3, "padding": 1, "features": 50}
    return two_items(args, data, lambda: LeNet(12, **shape), 2000, 3e-3, size=2.0)


def mnist(args):
    data = multi_mnist(args.data, train=20_000, test=5_000, seed=args.seed)
    lines, figure = two_items(args, data, lambda: LeNet(28), 1800, 3e-4, size=1.0)
    full = 200 * 120_000 // 256
    lines.append(f"shortened: the paper trains for {full} steps on 120 000 pictures")
    return lines, figure


# ------------------------------------------------------------------------------------ twenty tasks


class ManyHeads(nn.Module):
    """A narrow trunk, so that 20 tasks compete for it, and a head a task."""

    def __init__(self, inputs, width):
        super().__init__()
        self.trunk = nn.Sequential(
            nn.Linear(inputs, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU()
        )
        self.heads = nn.Linear(width, census.TASKS * census.CLASSES)

    def forward(self, x):
        return self.heads(self.trunk(x)).unflatten(1, (census.TASKS, census.CLASSES)).unbind(1)


def twenty_tasks(args):
    """Mean test accuracy over 20 tasks: one balanced network against one that switches."""
    data = census.load(args.data / "census" / "census-income.test.gz")
    steps, tasks = round(4000 * args.length), range(1, census.TASKS + 1)
    lines = [f"20 tasks on the census, {steps} steps, batch 256, mean and worst accuracy in %"]
    figure = Figure(figsize=(11, 5), layout="constrained")
    for axes, width in zip(figure.subplots(1, 2, sharey=True), (6, 24), strict=True):
        axes.set(xlabel="task", ylabel="test accuracy", title=f"trunk of width {width}")
        for name, run in switching(data, steps, width).items():
            torch.manual_seed(args.seed)
            found = run()
            mean, worst = 100 * np.mean(found), 100 * min(found)
            lines.append(f"width {width:2}  {name:26} {mean:6.2f} {worst:6.2f}")
            print(lines[-1], flush=True)
            axes.plot(tasks, found, marker="o", linewidth=0.8, label=name)
    axes.legend()
    return lines, figure


def switching(data, steps, width):
    """Functions by name that train and return the accuracy of every task."""
    x, y, test_x, test_y = data
    m = census.TASKS

    def make():
        return ManyHeads(x.shape[1], width)

    def losses(net, p):
        chosen = torch.randint(len(x), (256,))
        options = {} if p is None else {"preference": p}
        return task_losses(net(x[chosen], **options), y[chosen])

    @torch.no_grad()
    def accuracies(model_for):
        return [
            (model_for(task)(test_x)[task].argmax(1) == test_y[:, task]).double().mean().item()
            for task in range(m)
        ]

    def plain():
        model = make()
        base = torch.optim.Adam(model.parameters(), lr=3e-3)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(base, steps)
        opt = pyfront.LinearScalarization(base, even(m))
        for _ in range(steps):
            opt.step(losses(model, None))
            schedule.step()
        return accuracies(lambda task: model)

    def hyper(draw, at):
        net = pyfront.HyperNetwork(make(), m, size=3.0)
        train(net, "linear", losses, steps, 3e-3, draw)
        return accuracies(lambda task: net.generate(at(task)))

    dirichlet = torch.distributions.Dirichlet(torch.full((m,), 0.1, dtype=torch.float64))
    return {
        "one model, equal weights": plain,
        "balanced hypernetwork": lambda: hyper(lambda: even(m), lambda task: even(m)),
        "controllable, switches": lambda: hyper(dirichlet.sample, lambda task: torch.eye(m)[task]),
    }


EXPERIMENTS = {"synthetic": synthetic, "digits": digits, "mnist": mnist, "census": twenty_tasks}


def positive(text):
    value = float(text)
    if not 0.0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text}: expected a number > 0")
    return value


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--data", type=Path, metavar="DIR", help="holds mnist/ and census/")
    parser.add_argument("--only", nargs="+", choices=list(EXPERIMENTS), default=list(EXPERIMENTS))
    parser.add_argument("--length", type=positive, default=1.0, metavar="FACTOR")
    parser.add_argument("--seed", type=int, default=0, metavar="N")
    args = parser.parse_args()
    if args.data is None and {"mnist", "census"} & set(args.only):
        parser.error("mnist and census need --data")
    args.out.mkdir(parents=True, exist_ok=True)
    for name in args.only:
        lines, figure = EXPERIMENTS[name](args)
        print(*lines, "", sep="\n", flush=True)
        (args.out / f"{name}.txt").write_text("\n".join(lines) + "\n")
        figure.savefig(args.out / f"{name}.png", dpi=120)


if __name__ == "__main__":
    main()
