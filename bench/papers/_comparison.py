"""Several methods on one set: learning rates from one grid, seeds, measures, table, pictures."""

from itertools import product
from typing import NamedTuple

import numpy as np
from _training import BATCH, FULL_BATCH, ONE_PASS, Run, load, network
from matplotlib.figure import Figure
from tqdm import tqdm

from pyfront.front.measures import hypervolume
from pyfront.functional import non_uniformity
from pyfront.plots.style import COLOURS

__all__ = [
    "BATCH",
    "BOTH",
    "FIXED",
    "RATES",
    "SINGLE",
    "TUNING_SEED",
    "Case",
    "Found",
    "about",
    "at_rays",
    "compare",
    "draw_losses",
    "first_cells",
    "in_regions",
    "markers",
    "measures",
    "ray_of",
    "single_tasks",
    "spread",
    "table",
    "volume",
    "without_preference",
]

RATES = (0.003, 0.01, 0.03)
TUNING_SEED = 0
FIXED = "best fixed weights"
SINGLE = "single tasks"
BOTH = ("Pareto MTL", "Pareto MTL, no phase 1")


class Case(NamedTuple):
    """One run of a method: its options, and the preference at which its losses are judged."""

    options: dict
    preference: tuple


class Found(NamedTuple):
    """Losses [seeds, cases, m], accuracies, preferences [cases, m], and what the runs said."""

    train: np.ndarray
    test: np.ndarray
    accuracy: np.ndarray
    preferences: np.ndarray
    rate: float
    results: list

    def non_uniformity(self, part="test"):
        """μ, [seeds, cases]."""
        pairs = [zip(losses, self.preferences, strict=True) for losses in getattr(self, part)]
        return np.array([[non_uniformity(row, r) for row, r in some] for some in pairs])

    def worst(self, part="test"):
        """max_j r_j l_j, [seeds, cases]."""
        return (self.preferences * getattr(self, part)).max(axis=2)

    def hypervolumes(self, reference, part="test"):
        """Of the cases of each seed, [seeds]."""
        return np.array([volume(rows, reference) for rows in getattr(self, part)])


def at_rays(rays):
    """Entries of the methods that take a preference, one case per ray."""
    cases = [Case({"preference": list(r)}, tuple(r)) for r in rays]
    names = ("linear", "EPO", "EPO, smoothed", "feedback", "feedback, constant")
    return {name: (name, cases) for name in names}


def in_regions(vectors, methods=BOTH):
    """An entry of Pareto MTL, one case per reference vector, judged at the ray of the vector."""
    rows = [list(map(float, u)) for u in vectors]
    return methods, [Case({"vectors": rows, "index": k}, ray_of(u)) for k, u in enumerate(rows)]


def ray_of(vector):
    """The preference of a direction in loss space; an end of the front counts as nearly one."""
    inverse = 1.0 / np.maximum(np.asarray(vector) / np.linalg.norm(vector), 0.05)
    return tuple(float(r) for r in inverse / inverse.sum())


def without_preference(tasks, names=("MGDA", "GradNorm", "uncertainty")):
    """Entries of methods with one solution, judged at the even preference."""
    return {name: (name, [Case({}, (1.0 / tasks,) * tasks)]) for name in names}


def single_tasks(tasks):
    """An entry with one network per task."""
    return "single task", [
        Case({"task": j}, tuple(float(j == k) for k in range(tasks))) for j in range(tasks)
    ]


def volume(points, reference):
    """The hypervolume to a reference; a point that is beyond it adds nothing."""
    reference = np.asarray(reference, dtype=np.float64)
    return float(hypervolume(np.minimum(points, reference), reference))


def compare(bench, name, entries, steps, fixed="feedback"):
    """Results of {label: (methods, cases)} on a set, each with its own rate of the grid.

    A rate, and one of several methods, is chosen by the mean of max_j r_j l_j on the training rows,
    over the first and the middle case and a seed of its own. The best fixed weights are linear
    weights that the runs of the entry `fixed` suggest at their end.
    """
    grids = {
        label: list(product((some,) if isinstance(some, str) else some, RATES))
        for label, (some, _) in entries.items()
    }
    total = sum(2 * len(grids[k]) + len(bench.seeds) * len(c) for k, (_, c) in entries.items())
    total += len(bench.seeds) * len(entries[fixed][1]) if fixed in entries else 0
    found = {}
    with tqdm(total=total, desc=name, unit="run", dynamic_ncols=True, mininterval=1.0) as bar:

        def run(method, case, rate, seed):
            result = bench.run(Run(name, method, case.options, rate, seed, steps))
            bar.update()
            return result

        for label, (_, cases) in entries.items():
            bar.set_postfix_str(label)
            few = [cases[0], cases[len(cases) // 2]]
            scores = [
                np.mean([worst(run(method, c, lr, TUNING_SEED), c) for c in few])
                for method, lr in grids[label]
            ]
            method, rate = grids[label][int(np.argmin(scores))]
            results = [[run(method, case, rate, seed) for case in cases] for seed in bench.seeds]
            found[label] = gathered(results, cases, rate)
        if fixed in found:
            bar.set_postfix_str(FIXED)
            cases, rate = entries[fixed][1], found[fixed].rate
            results = []
            for seed, ends in zip(bench.seeds, found[fixed].results, strict=True):
                weights = [Case({"preference": end["suggested"]}, ()) for end in ends]
                results.append([run("linear", case, rate, seed) for case in weights])
            found[FIXED] = gathered(results, cases, rate)
    return found


def worst(result, case):
    return float(np.max(np.multiply(result["train"], case.preference)))


def gathered(results, cases, rate):
    columns = [
        np.array([[run[key] for run in runs] for runs in results])
        for key in ("train", "test", "accuracy")
    ]
    return Found(*columns, np.array([case.preference for case in cases]), rate, results)


# ------------------------------------------------------------------------------------------ tables


def table(heads, rows):
    """A table in Markdown; cells are strings or numbers."""
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    return lines + ["| " + " | ".join(map(shown, cells)) + " |" for cells in rows]


def shown(cell):
    return f"{cell:.4g}" if isinstance(cell, float) else str(cell)


def spread(values):
    """Mean, and deviation over the seeds where there are several."""
    values = np.asarray(values, dtype=float)
    if len(values) == 1:
        return f"{values[0]:.4g}"
    return f"{values.mean():.4g} ± {values.std():.2g}"


def first_cells(label, found):
    """What ran: the method where one of several was chosen, backward passes, rate."""
    method = found.results[0][0]["method"]
    label = method if method.startswith(label) else label
    return [label, "1" if method in ONE_PASS else "m", found.rate]


def measures(found, base, reference=None, part="test"):
    """Cells of one method beside those of `base`: μ, ratio, worst r·l, mean loss, hypervolume."""
    apart, usual = (f.non_uniformity(part).mean(axis=1) for f in (found, base))
    cells = [spread(apart), f"{apart.mean() / usual.mean():.2f}"]
    cells += [spread(found.worst(part).mean(axis=1))]
    cells += [spread(getattr(found, part).mean(axis=(1, 2)))]
    if reference is not None:
        cells.append(spread(found.hypervolumes(reference, part)))
    return cells


def about(bench, name, steps, rate=None):
    """What ran, in one sentence; rate: one for all, in place of the grid."""
    rows = load(name, bench.data)
    count = sum(p.numel() for p in network(rows).parameters())
    shape = " × ".join(map(str, rows.x.shape[1:]))
    batch = FULL_BATCH if name.endswith("-full") else BATCH
    tuned = f"rates {', '.join(map(str, RATES))} tuned for each method"
    rates = tuned if rate is None else f"rate {rate} for all methods"
    return (
        f"`{name}`: {rows.count} training and {len(rows.x) - rows.count} test rows of {shape}, "
        f"{count} parameters, {steps} steps of {batch} rows, Adam, cosine decay to 0, {rates}, "
        f"{len(bench.seeds)} seeds (mean ± standard deviation over them)."
    )


# ---------------------------------------------------------------------------------------- pictures


def markers(labels):
    """A colour and a mark per label."""
    shapes, colours = "os^DvPX*<>", (*COLOURS, "0.55", "#7F3F00", "#8080FF")
    return {
        label: {"color": colours[k % len(colours)], "marker": shapes[k % len(shapes)]}
        for k, label in enumerate(labels)
    }


def draw_losses(found, rays, title, limit):
    """Test losses with rays l ∝ 1/r, and accuracies; the cases of the first seed."""
    figure = Figure(figsize=(11, 5), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.set(xlabel="test loss of task 1", ylabel="test loss of task 2", title=title)
    right.set(xlabel="test accuracy of task 1", ylabel="test accuracy of task 2")
    for r in rays:
        end = limit / max(1.0 / r[0], 1.0 / r[1])
        left.plot([0.0, end / r[0]], [0.0, end / r[1]], color="0.8", linewidth=1.0, zorder=0)
    for (label, some), style in zip(found.items(), markers(found).values(), strict=True):
        line = {"linestyle": ":", "linewidth": 0.8, "markersize": 6, "label": label} | style
        left.plot(*some.test[0].T, **line)
        right.plot(*some.accuracy[0].T, **line)
    left.set(xlim=(0.0, limit), ylim=(0.0, limit))
    right.legend(fontsize=8)
    return figure
