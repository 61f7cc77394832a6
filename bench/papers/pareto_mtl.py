"""The experiments of "Pareto Multi-Task Learning" (Lin et al. 2019).

    python bench/papers/pareto_mtl.py                         # embedded sets, minutes
    python bench/papers/pareto_mtl.py --data ../shared/data   # the paper's sets, a shorter budget
    python bench/papers/pareto_mtl.py --only figure2 --seeds 1

figure2: ten vectors on problem (19), starts inside and outside the box of the Pareto set; figure6:
without the feasibility phase; figure11: losses of unequal scale; tasks: 2 to 5 tasks; figure4:
three sets of two-item pictures; figure7: the same without the feasibility phase; figure8: three
tasks of the census, 5 and 25 vectors; figure10: weights over time.
"""

import numpy as np
import torch
from _comparison import (
    SINGLE,
    Case,
    about,
    at_rays,
    compare,
    draw_losses,
    first_cells,
    in_regions,
    markers,
    measures,
    ray_of,
    single_tasks,
    spread,
    table,
    volume,
    without_preference,
)
from _runner import main
from _synthetic import PLACES, after, descend, feedback, start, tuned
from _training import Run, load
from matplotlib.figure import Figure

import pyfront
from pyfront.cli.demo_training import rays_between
from pyfront.preferences import circle, sample, sample_sphere
from pyfront.problems import ConcaveProblem, QuadraticProblem

ITERATIONS, WARMUP, VECTORS = 100, 50, 10
WEIGHTS = 34  # random weights per seed
ON_FRONT = 0.02

# --------------------------------------------------------------------------------------- synthetic


def region(vectors, k, warmup=WARMUP):
    """Pareto MTL whose constraints act from half-way to the edge of the region, as in the demo."""
    cosines = vectors @ vectors[k]
    cosines[k] = -1.0
    margin = 0.5 * (1.0 - cosines.max().item())
    return lambda base: pyfront.ParetoMTL(base, vectors, k, warmup_steps=warmup, epsilon=margin)


def contenders(vectors):
    """name → (makers, the preference at which each is judged), per seed."""
    m, rays = vectors.shape[1], np.array([ray_of(u) for u in vectors])
    weights = sample(m, WEIGHTS, torch.Generator().manual_seed(2)).tolist()
    even, index = np.full((VECTORS, m), 1.0 / m), range(len(vectors))
    linear = [lambda b, w=w: pyfront.LinearScalarization(b, w) for w in weights]
    return {
        "linear, random weights": (linear, np.array(weights)),
        "MGDA": ([pyfront.MGDA] * VECTORS, even),
        "Pareto MTL": ([region(vectors, k) for k in index], rays),
        "Pareto MTL, no phase 1": ([region(vectors, k, 0) for k in index], rays),
        "EPO": ([lambda b, r=r: pyfront.EPO(b, r) for r in rays.tolist()], rays),
        "feedback": ([feedback(r) for r in rays.tolist()], rays),
    }


def solved(bench, problem, vectors, names, place):
    """{method: (rate, [seeds][runs] ends)}."""
    found = {}
    for name, (makers, rays) in contenders(vectors).items():
        if name in names:
            worst = not name.startswith("linear")
            rate = tuned(problem, makers, rays, ITERATIONS, place, worst)
            found[name] = rate, [
                [descend(problem, make, start(problem, 1000 * seed + k, place), ITERATIONS, rate)
                 for k, make in enumerate(makers)]
                for seed in bench.seeds
            ]  # fmt: skip
    return found


HEADS = ("", "rate", "runs on the front", "in the own region", "regions met", "largest gap")


def spread_of(problem, vectors, found, front):
    """Runs on the front; in their own region; different regions; largest gap of the front."""
    rows = []
    for name, (rate, seeds) in found.items():
        figures = []
        for ends in seeds:
            points = np.array([end.losses for end in ends])
            nearest = (points @ vectors.numpy().T).argmax(axis=1)
            there = np.array([after(problem, end)[0] for end in ends]) <= ON_FRONT
            own = np.mean(nearest == np.arange(len(ends))) if len(ends) == len(vectors) else np.nan
            apart = np.linalg.norm(front[:, None] - points[None], axis=2).min(axis=1).max()
            met = len(set(nearest[there])) if there.any() else 0
            figures.append((there.mean(), own, met, apart))
        a, b, c, d = np.array(figures).T
        asked = name.startswith(("Pareto", "EPO", "feedback"))
        own = f"{100 * b.mean():.0f}%" if asked else "–"
        rows.append([name, rate, f"{100 * a.mean():.0f}%", own, spread(c), spread(d)])
    return rows


def kept(bench, problem, vectors, names, place, front, settings):
    """The rows of a table, and the ends of the first seed, as JSON values."""

    def make():
        found = solved(bench, problem, vectors, names, place)
        points = {name: [e.losses.tolist() for e in ends[0]] for name, (_, ends) in found.items()}
        return {"rows": spread_of(problem, vectors, found, front), "points": points}

    settings = settings | {"tasks": problem.num_tasks, "place": place, "methods": names}
    return bench.kept(settings | {"seeds": bench.seeds, "iterations": ITERATIONS}, make)


def two_tasks(bench, name, scales, names, places=PLACES, vectors=None):
    vectors = circle(VECTORS) if vectors is None else vectors
    lines = []
    figure = Figure(figsize=(3.6 * len(names), 3.4 * len(scales) * len(places)))
    figure.set_layout_engine("constrained")
    grid = figure.subplots(len(scales) * len(places), len(names), squeeze=False)
    for k, (scale, place) in enumerate((s, p) for s in scales for p in places):
        problem = ConcaveProblem(n=20, scales=scale)
        front = problem.front(201).numpy()
        found = kept(bench, problem, vectors, names, place, front, {"scales": scale})
        what = f"a = {scale}, start {place} the box"
        lines += [f"{what}:", "", *table(HEADS, found["rows"]), ""]
        for axes, (label, points) in zip(grid[k], found["points"].items(), strict=True):
            axes.plot(*front.T, color="0.8", linewidth=6, zorder=0)
            axes.plot(*np.array(points).T, "o", markersize=4)
            axes.set(title=label, xlabel="loss 1", ylabel=f"loss 2 ({place})")
            axes.title.set_fontsize(9)
    bench.write(name, lines, figure)


USUAL = ("linear, random weights", "MGDA", "Pareto MTL", "EPO", "feedback")


def figure2(bench):
    """Ten vectors on problem (19) against random weights and MGDA."""
    two_tasks(bench, "figure2", [(1.0, 1.0)], USUAL)


def figure6(bench):
    """The same without the feasibility phase."""
    names = ("MGDA", "Pareto MTL", "Pareto MTL, no phase 1", "feedback")
    two_tasks(bench, "figure6", [(1.0, 1.0)], names)


def figure11(bench):
    """Losses of unequal scale."""
    two_tasks(bench, "figure11", [(2.0, 1.0), (10.0, 1.0), (50.0, 1.0)], USUAL, ("inside",))


def on_front(problem, count):
    """Random points of the front of a `QuadraticProblem`, [count, m]."""
    theta = torch.zeros(count, problem.n, dtype=torch.float64)
    weights = sample(problem.num_tasks, count, torch.Generator().manual_seed(4))
    theta[:, : problem.num_tasks] = weights
    return torch.stack([problem.losses(row) for row in theta])


def tasks(bench):
    """2 to 5 tasks: ten vectors that point to the front of a convex problem."""
    lines = []
    for m in (2, 3, 4, 5):
        problem = QuadraticProblem(m, n=20)
        points, front = (on_front(problem, count) for count in (VECTORS, 500))
        vectors = points / points.norm(dim=1, keepdim=True)
        for place in PLACES:
            rows = kept(bench, problem, vectors, USUAL[1:], place, front.numpy(), {})["rows"]
            lines += [f"{m} tasks, start {place} the box:", "", *table(HEADS, rows), ""]
    bench.write("tasks", lines)


# ---------------------------------------------------------------------------------------- pictures

PAIRS = ("multi-mnist", "multi-fashion", "multi-fashion-mnist")
MEASURES = ("", "passes", "runs", "rate", "μ, test", "linear's = 1", "worst r·l, test")
MEASURES += ("mean loss, test", "hypervolume to (2, 2)", "best accuracy 1, 2")


def image_rows(found):
    rows = []
    for label, some in found.items():
        label_shown, passes, rate = first_cells(label, some)
        cells = [label_shown, passes, some.test.shape[1], rate]
        best = 100 * some.accuracy.max(axis=1).mean(axis=0)
        if label == SINGLE:
            own = some.test[:, range(2), range(2)].mean()
            best = 100 * some.accuracy[:, range(2), range(2)].mean(axis=0)
            cells += ["–", "–", "–", own, "–"]
        else:
            cells += measures(some, found["linear"], (2.0, 2.0))
        rows.append([*cells, ", ".join(f"{value:.1f}" for value in best)])
    return rows


def names_of(bench, real):
    names = tuple(f"{name}-full" for name in real) if bench.full else real
    return bench.sets(("multi-digits",), names)


def images(bench, label, name, entries, hidden=()):
    steps = bench.steps(200, 100 * 120_000 // 256)
    found = compare(bench, name, entries, steps)
    lines = [about(bench, name, steps), "", *table(MEASURES, image_rows(found))]
    shown = {k: f for k, f in found.items() if k not in (SINGLE, "EPO", *hidden)}
    limit = 1.05 * max(f.test[0].max() for f in shown.values())
    bench.write(f"{label}-{name}", lines, draw_losses(shown, rays_between(5), name, limit))
    return found


def figure4(bench):
    """Five vectors from end to end on the paper's three sets of pictures."""
    for name in names_of(bench, PAIRS):
        entries = at_rays(rays_between(5)) | {"Pareto MTL": in_regions(circle(5).tolist())}
        entries |= without_preference(2) | {SINGLE: single_tasks(2)}
        images(bench, "figure4", name, entries, hidden=("feedback, constant",))


def figure7(bench):
    """With and without the feasibility phase."""
    vectors = circle(5).tolist()
    for name in names_of(bench, PAIRS):
        entries = at_rays(rays_between(5))
        entries |= {n: in_regions(vectors, n) for n in ("Pareto MTL", "Pareto MTL, no phase 1")}
        images(bench, "figure7", name, entries, hidden=("EPO, smoothed", "feedback, constant"))


def figure10(bench):
    """The weight of task 1 over time, as a share of all weights' sizes."""
    vectors, times, rate = circle(5).tolist(), 40, 0.01
    methods = {f"Pareto MTL, vector {k + 1}": ("Pareto MTL", c.options) for k, c in
               enumerate(in_regions(vectors)[1])}  # fmt: skip
    methods |= {name: (name, {}) for name in ("MGDA", "GradNorm", "uncertainty")}
    even = {"preference": [0.5, 0.5]}
    methods |= {name: (name, even) for name in ("EPO", "EPO, smoothed", "feedback", "linear")}
    for name in names_of(bench, ("multi-mnist",)):
        steps, rows = bench.steps(200, 100 * 120_000 // 256), []
        figure = Figure(figsize=(12, 6), layout="constrained")
        panels = figure.subplots(3, 4, sharex=True, sharey=True).ravel()
        for axes, (label, (method, options)) in zip(panels, methods.items(), strict=True):
            late = []
            for seed in bench.seeds:
                run = Run(name, method, options | {"trace": times}, rate, seed, steps)
                weights = np.array(bench.run(run)["weights"])
                share = weights[:, 0] / np.abs(weights).sum(axis=1).clip(1e-12)
                axes.plot(np.arange(len(share)) * max(steps // times, 1), share, linewidth=1.0)
                late.append(share[len(share) // 2 :])
            late = np.array(late)
            over_time = [spread(late.mean(axis=1)), spread(late.std(axis=1))]
            rows.append([label, *over_time, float(late.min()), float(late.max())])
            axes.set_title(label, fontsize=9)
        figure.suptitle("one line per seed; vector 1 lies on the axis of loss 1", fontsize=10)
        figure.supxlabel("step")
        figure.supylabel("weight of task 1")
        heads = ("", "mean", "deviation over time", "least", "largest")
        lines = [about(bench, name, steps, rate), ""]
        lines += ["Share of task 1 in the second half of the runs; vector 1 lies on the axis of"]
        lines += ["loss 1, where task 2 is favoured, vector 5 on that of loss 2.", ""]
        bench.write(f"figure10-{name}", [*lines, *table(heads, rows)], figure)


# ------------------------------------------------------------------------------------- three tasks


def figure8(bench):
    """5 and 25 random vectors on three tasks, against as many random weights."""
    real = ("census-3-full",) if bench.full else ("census-3",)
    for name in bench.sets(("digits-3",), real):
        rows = load(name, bench.data)
        steps = bench.steps(200, 10_000)
        rate = rows.train[1].double().mean(dim=0)
        guess = -(rate * rate.log() + (1 - rate) * (1 - rate).log()).numpy()
        lines = [about(bench, name, steps), ""]
        lines += [f"Hypervolume to the losses of constant guesses, {np.round(guess, 3).tolist()}."]
        figure, styles = Figure(figsize=(11, 5.4), layout="constrained"), None
        for axes, count in zip(figure.subplots(1, 2), (5, 25), strict=True):
            found = three_tasks(bench, name, count, steps)
            styles = styles or markers(found)
            lines += ["", f"{count} vectors:", "", *three_rows(found, guess)]
            axes.set(title=f"{count} vectors", xlabel="test loss of task 1")
            axes.set(ylabel="test loss of task 3")
            for label, some in found.items():
                axes.plot(*some.test[0][:, [0, 2]].T, linestyle="", label=label, **styles[label])
        shown = figure.axes[0].get_legend_handles_labels()
        figure.legend(*shown, loc="outside lower center", ncols=4, fontsize=9)
        bench.write(f"figure8-{name}", lines, figure)


def three_tasks(bench, name, count, steps):
    generator = torch.Generator().manual_seed(count)
    vectors = sample_sphere(3, count, generator)
    weights = sample(3, count, generator).tolist()
    entries = at_rays([ray_of(u) for u in vectors])
    for label in ("linear", *(("EPO", "EPO, smoothed", "feedback, constant") if count > 5 else ())):
        entries.pop(label)
    random = [Case({"preference": w}, tuple(w)) for w in weights]
    entries = {"linear, random weights": ("linear", random)} | entries
    entries["Pareto MTL"] = in_regions(vectors.tolist())
    return compare(bench, name, entries, steps)


def three_rows(found, guess):
    """Hypervolume, and how much of random search each method dominates, on the test rows."""
    base, rows = found["linear, random weights"], []
    for label, some in found.items():
        pairs = list(zip(some.test, base.test, strict=True))
        lost = np.array([(dominated(b, a), dominated(a, b)) for a, b in pairs])
        cells = [f"{a:.0f} ± {s:.0f}%" for a, s in 100 * np.array([lost.mean(0), lost.std(0)]).T]
        cells = ["–", "–"] if label == "linear, random weights" else cells
        volumes = [volume(points, guess) / guess.prod() for points in some.test]
        rows.append([*first_cells(label, some), spread(volumes), *cells,
                     spread(some.worst().mean(axis=1)),
                     spread(some.test.mean(axis=(1, 2)))])  # fmt: skip
    heads = ("", "passes", "rate", "hypervolume / box", "of random search it dominates")
    heads += ("of its own that random search dominates", "worst r·l, test", "mean loss, test")
    return table(heads, rows)


def dominated(points, by):
    """The share of points that one of the others beats in every task."""
    return float((by[None] < points[:, None]).all(axis=2).any(axis=1).mean())


FIGURES = {
    "figure2": figure2,
    "figure6": figure6,
    "figure11": figure11,
    "tasks": tasks,
    "figure4": figure4,
    "figure7": figure7,
    "figure8": figure8,
    "figure10": figure10,
}

if __name__ == "__main__":
    main("pareto_mtl", __doc__, FIGURES)
