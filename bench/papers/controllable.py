"""The experiments of "Controllable Pareto Multi-Task Learning" (Lin et al. 2020).

    python bench/papers/controllable.py                         # embedded sets, minutes
    python bench/papers/controllable.py --data ../shared/data   # MultiMNIST and the census

figure7: problem (22), the generated curve against the true front at 101 preferences; figure8a: one
network for every trade-off of MultiMNIST, against 5 separate models at equal total and at equal
steps per model; figure9: 20 tasks (columns of the census in place of CIFAR-100), one network that
switches to the preference of the task it predicts; table1: parameters and latency.
"""

import statistics
import time
from functools import partial

import numpy as np
import torch
from _comparison import (
    BATCH,
    FIXED,
    RATES,
    SINGLE,
    TUNING_SEED,
    about,
    at_rays,
    compare,
    markers,
    single_tasks,
    spread,
    table,
    volume,
)
from _generator import curve, even, train_generator
from _runner import main
from _training import METHODS, load, measured, network
from matplotlib.figure import Figure
from tqdm import tqdm

import pyfront
from pyfront import preferences
from pyfront.cli.demo_training import rays_between
from pyfront.functional import non_uniformity
from pyfront.problems import SineProblem

# ---------------------------------------------------------------------------------------- figure 7


CURVES = ("linear", "Pareto MTL, literal (8)", "Pareto MTL", "EPO", "proportional, k = 30")


def figure7(bench):
    """The generated curve on problem (22) against its front."""
    steps, rows = bench.steps(2000, 16_000), []
    figure = Figure(figsize=(7, 5.5), layout="constrained")
    axes = figure.subplots()
    axes.plot(*SineProblem(n=10).front(201).T, color="0.8", linewidth=7, label="true front")
    axes.set(xlabel="loss 1", ylabel="loss 2")
    for method in tqdm(CURVES, desc="problem (22)", unit="method"):
        settings = {"figure": "figure7", "method": method, "steps": steps}
        found = [
            bench.kept(settings | {"seed": seed}, lambda s=seed, m=method: curve(m, s, steps))
            for seed in bench.seeds
        ]
        names = ("distance", "gap", "angle", "largest")
        rows.append([method, *(spread([run[name] for run in found]) for name in names)])
        style = {"marker": ".", "linewidth": 0.8, "markersize": 4}
        axes.plot(*np.array(found[0]["curve"]).T, label=method, **style)
    axes.legend(fontsize=8)
    heads = ("weights for φ", "distance", "gap", "mean angle, °", "largest angle, °")
    said = (
        f"Problem (22), n = 10, a plain hypernetwork of 50-50, Adam 1e-3 with cosine decay, "
        f"{steps} steps of one preference, {len(bench.seeds)} seeds."
    )
    bench.write("figure7", [said, "", *table(heads, rows)], figure)


# --------------------------------------------------------------------------------------- figure 8a

ALONG = 21
ONE_NETWORK = ("linear", "Pareto MTL", "proportional, k = 10")


def one_network(bench, name, method, rate, seed, steps, rays):
    """Losses and accuracies of one hypernetwork at several preferences."""
    rows = load(name, bench.data)
    torch.manual_seed(seed)
    net = pyfront.HyperNetwork(network(rows), rows.tasks, size=1.0)
    generator = torch.Generator().manual_seed(1000 + seed)
    (x, y), began = rows.train, time.process_time()

    def losses(net, p):
        chosen = torch.randint(len(x), (BATCH,), generator=generator)
        return rows.losses(net(x[chosen], preference=p), y[chosen])

    train_generator(net, method, losses, steps, rate, lambda: preferences.sample(rows.tasks, 1)[0])
    seconds = time.process_time() - began
    found = [measured(net.generate(r), rows) for r in rays]
    return {key: [one[key] for one in found] for key in found[0]} | {"seconds": seconds}


def with_best_rate(bench, bar, settings, make, score):
    """The rate of least score at the tuning seed, and the results of all seeds at that rate."""

    def run(rate, seed):
        result = bench.kept(settings | {"rate": rate, "seed": seed}, lambda: make(rate, seed))
        bar.update()
        return result

    bar.set_postfix_str(settings["method"])
    rate = min(RATES, key=lambda rate: score(run(rate, TUNING_SEED)))
    return rate, [run(rate, seed) for seed in bench.seeds]


def generators(bench, name, steps):
    """{method: (rate, results per seed)} of one network, rates tuned as for separate models."""
    found, few, along = {}, rays_between(3), rays_between(ALONG)

    def score(result):
        return np.multiply(few, result["train"]).max(axis=1).mean()

    def make(method, rate, seed):
        rays = few if seed == TUNING_SEED else along
        return one_network(bench, name, method, rate, seed, steps, rays)

    with tqdm(total=len(ONE_NETWORK) * (len(RATES) + len(bench.seeds)), desc=name) as bar:
        for method in ONE_NETWORK:
            settings = {"figure": "figure8a", "data": name, "method": method, "steps": steps}
            found[method] = with_best_rate(bench, bar, settings, partial(make, method), score)
    return found


def figure8a(bench):
    """One network along 21 preferences against 5 models, equal total and equal steps per model."""
    real = ("multi-mnist-full",) if bench.full else ("multi-mnist",)
    for name in bench.sets(("multi-digits",), real):
        steps, rays = bench.steps(200, 200 * 120_000 // 256), rays_between(5)
        rows, drawn = [], {}
        for method, (rate, runs) in generators(bench, name, steps).items():
            test, hits = (np.array([run[key] for run in runs]) for key in ("test", "accuracy"))
            label = f"one network, {method}"
            rows.append([label, ALONG, steps, rate, *eight_a(test, hits, rays_between(ALONG))])
            drawn[label] = test[0], hits[0]
        for each, what in ((max(steps // 5, 1), "equal total"), (steps, "equal per model")):
            usual = at_rays(rays)
            entries = {key: usual[key] for key in ("linear", "feedback")}
            entries[SINGLE] = single_tasks(2)
            found = compare(bench, name, entries, each)
            for label, some in found.items():
                if label == SINGLE:
                    own = [some.test[:, j, j].mean() for j in range(2)]
                    hits = [100 * some.accuracy[:, j, j].mean() for j in range(2)]
                    cells = ["–", "–", f"{np.mean(own):.4g}", f"{hits[0]:.1f}, {hits[1]:.1f}"]
                    rows.append([f"single tasks, {what}", 2, 2 * each, some.rate, *cells])
                    continue
                cells = eight_a(some.test, some.accuracy, rays)
                rows.append([f"5 models, {label}, {what}", 5, 5 * each, some.rate, *cells])
                if label != FIXED:
                    drawn[rows[-1][0]] = some.test[0], some.accuracy[0]
        heads = ("", "solutions", "steps in all", "rate", "hypervolume to (2, 2)", "μ, test")
        heads += ("mean loss, test", "best accuracy 1, 2")
        lines = [about(bench, name, steps), "", *table(heads, rows)]
        bench.write(f"figure8a-{name}", lines, two_panels(drawn, name))


def eight_a(test, hits, rays):
    """Cells: hypervolume, μ, mean loss, best accuracies; arrays [seeds, cases, 2]."""
    volumes = [volume(points, (2.0, 2.0)) for points in test]
    uneven = [
        np.mean([non_uniformity(row, r) for row, r in zip(points, rays, strict=True)])
        for points in test
    ]
    best = 100 * hits.max(axis=1).mean(axis=0)
    mean = spread(test.mean(axis=(1, 2)))
    return spread(volumes), spread(uneven), mean, f"{best[0]:.1f}, {best[1]:.1f}"


def two_panels(drawn, title):
    figure = Figure(figsize=(12, 5.5), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.set(xlabel="test loss of task 1", ylabel="test loss of task 2", title=title)
    right.set(xlabel="test accuracy of task 1", ylabel="test accuracy of task 2")
    for (label, (losses, hits)), style in zip(drawn.items(), markers(drawn).values(), strict=True):
        line = {"linestyle": ":", "linewidth": 0.8, "markersize": 5, "label": label} | style
        left.plot(*losses.T, **line)
        right.plot(*hits.T, **line)
    left.legend(fontsize=7)
    return figure


# ---------------------------------------------------------------------------------------- figure 9


def switched(bench, name, method, draw, at, steps, rate, seed):
    """Accuracy and training loss of each task; a network per task where `at` gives a preference."""
    rows = load(name, bench.data)
    torch.manual_seed(seed)
    net = network(rows)
    generator = torch.Generator().manual_seed(1000 + seed)
    x, y = rows.train

    def losses(net, p=None):
        chosen = torch.randint(len(x), (BATCH,), generator=generator)
        asked = {} if p is None else {"preference": p}
        return rows.losses(net(x[chosen], **asked), y[chosen])

    if draw is None:
        base = torch.optim.Adam(net.parameters(), lr=rate)
        opt = PLAIN[method](base, rows)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(base, steps)
        for _ in range(steps):
            opt.step(losses(net))
            schedule.step()
        found = [measured(net, rows)] * rows.tasks
    else:
        net = pyfront.HyperNetwork(net, rows.tasks, size=3.0)
        train_generator(net, method, losses, steps, rate, lambda: draw(rows.tasks))
        found = [measured(net.generate(at(rows.tasks, j)), rows) for j in range(rows.tasks)]
    return {key: [one[key][j] for j, one in enumerate(found)] for key in ("train", "accuracy")}


PLAIN = {
    "uniform linear": lambda b, rows: pyfront.LinearScalarization(b, even(rows.tasks)),
    "uncertainty": lambda b, rows: METHODS["uncertainty"](b, None, None, rows),
    "dynamic weight average": lambda b, rows: pyfront.DynamicWeightAverage(b, steps_per_epoch=100),
    "MGDA": lambda b, rows: pyfront.MGDA(b),
}


def sparse(tasks):
    return torch.distributions.Dirichlet(torch.full((tasks,), 0.1).double()).sample()


def one_hot(tasks, j):
    return torch.eye(tasks)[j]


def same(tasks, j=None):
    return torch.tensor(even(tasks))


SWITCHED = {
    **{name: (name, None, None) for name in PLAIN},
    "balanced hypernetwork": ("linear", same, same),
    "controllable, linear": ("linear", sparse, one_hot),
    "controllable, Pareto MTL": ("Pareto MTL", sparse, one_hot),
    "controllable, proportional": ("proportional, k = 10", sparse, one_hot),
}


def switching(bench, name, steps):
    """{label: (rate, results per seed)} of every way to serve all tasks."""
    found = {}

    def score(result):
        return np.mean(result["train"])

    with tqdm(total=len(SWITCHED) * (len(RATES) + len(bench.seeds)), desc=name) as bar:
        for label, how in SWITCHED.items():
            settings = {"figure": "figure9", "data": name, "method": label, "steps": steps}
            make = partial(switched, bench, name, *how, steps)
            found[label] = with_best_rate(bench, bar, settings, make, score)
    return found


def figure9(bench):
    """Accuracy over many tasks: one solution against a network that switches."""
    for name in bench.sets(("digits",), ("census-20",)):
        steps, rows = bench.steps(200, 10_000), []
        figure = Figure(figsize=(9, 4.5), layout="constrained")
        axes = figure.subplots()
        axes.set(xlabel="task", ylabel="test accuracy, seed 1", title=name)
        for (label, (rate, runs)), style in zip(
            switching(bench, name, steps).items(), markers(SWITCHED).values(), strict=True
        ):
            hits = 100 * np.array([run["accuracy"] for run in runs])
            rows.append([label, rate, spread(hits.mean(axis=1)), spread(hits.min(axis=1))])
            axes.plot(range(1, hits.shape[1] + 1), hits[0], label=label, linewidth=0.8, **style)
        axes.legend(fontsize=7, ncol=2)
        heads = ("", "rate", "mean accuracy, %", "worst task, %")
        bench.write(f"figure9-{name}", [about(bench, name, steps), "", *table(heads, rows)], figure)


# ----------------------------------------------------------------------------------------- table 1


def table1(bench):
    """Parameters and time of a forward pass of the paper's LeNet, batch 256, in turns."""
    from networks import LeNet

    torch.manual_seed(0)
    plain = LeNet(28)
    net = pyfront.HyperNetwork(LeNet(28), 2, size=1.0)
    made, x = net.generate([0.5, 0.5]), torch.randn(256, 1, 28, 28)
    drawn = iter(preferences.sample(2, 10_000))

    def switch():
        net.switch(next(drawn))
        return net(x)

    calls = {
        "the plain model": lambda: plain(x),
        "one network, a new preference per batch": lambda: net(x, preference=next(drawn)),
        "the same by `switch(p)`": switch,
        "a model of `generate(p)`": lambda: made(x),
    }
    taken = {name: [] for name in calls}
    with torch.no_grad():
        for _ in range(bench.steps(31, 101)):
            for name, call in calls.items():
                began = time.perf_counter()
                call()
                taken[name].append(1000 * (time.perf_counter() - began))
    base, rows = taken["the plain model"], []
    for name, values in taken.items():
        model = net if name.startswith(("one network", "the same")) else plain
        count = sum(p.numel() for p in model.parameters())
        ratio = statistics.median(v / b for v, b in zip(values, base, strict=True))
        rows.append([name, count, f"{statistics.median(values):.1f}", f"{ratio:.2f}"])
    heads = ("", "parameters", "ms, median", "over the plain model")
    bench.write("table1", table(heads, rows))


FIGURES = {"figure7": figure7, "figure8a": figure8a, "figure9": figure9, "table1": table1}

if __name__ == "__main__":
    main("controllable", __doc__, FIGURES)
