"""The experiments of "Multi-Task Learning with User Preferences" (Mahapatra and Rajan 2020).

    python bench/papers/epo.py                            # embedded sets, minutes
    python bench/papers/epo.py --data ../shared/data      # the paper's sets, a shorter budget
    python bench/papers/epo.py --only figure6 --seeds 1

figure1, figure6: four preferences on problem (36); trace: from one solution to the next along the
front; growth: 2 to 32 objectives; figure7: three sets of two-item pictures, five preferences;
figure8: River Flow, eight tasks, twenty preferences; emotions: six labels.
"""

import time

import numpy as np
import torch
from _comparison import (
    SINGLE,
    about,
    at_rays,
    compare,
    draw_losses,
    first_cells,
    in_regions,
    markers,
    measures,
    single_tasks,
    spread,
    table,
)
from _runner import main
from _synthetic import PLACES, End, after, descend, feedback, start, tuned
from matplotlib.figure import Figure

import pyfront
from pyfront.cli.demo_training import rays_between
from pyfront.preferences import sample, to_reference_vectors
from pyfront.problems import ConcaveProblem, QuadraticProblem

EPO_STEPS, OTHERS_STEPS = 80, 200  # iterations, as in section 5.1
ON_FRONT, ON_RAY = 0.02, 1e-3


def makers(rays):
    """Methods on the synthetic problem: name → (iterations, one maker per ray)."""
    vectors = to_reference_vectors(torch.tensor(rays))
    return {
        "linear": (
            OTHERS_STEPS,
            [lambda b, r=r: pyfront.LinearScalarization(b, r) for r in rays],
        ),
        "MGDA": (OTHERS_STEPS, [pyfront.MGDA for _ in rays]),
        "Pareto MTL": (
            OTHERS_STEPS,
            [
                lambda b, k=k: pyfront.ParetoMTL(b, vectors, k, warmup_steps=OTHERS_STEPS // 2)
                for k in range(len(rays))
            ],
        ),
        "EPO": (EPO_STEPS, [lambda b, r=r: pyfront.EPO(b, r) for r in rays]),
        "EPO, 200": (OTHERS_STEPS, [lambda b, r=r: pyfront.EPO(b, r) for r in rays]),
        "feedback": (EPO_STEPS, [feedback(r) for r in rays]),
    }


def synthetic(bench, place):
    """Problem (36), the rays, and {"rows": of a table, "paths": {method: of the first seed}}."""
    problem, rays = ConcaveProblem(n=20), rays_between(4)

    def make():
        found = {}
        for name, (steps, each) in makers(rays).items():
            rate = tuned(problem, each, np.array(rays), steps, place, name != "linear")
            found[name] = rate, steps, [
                [descend(problem, make, start(problem, 10 * seed + k, place), steps, rate)
                 for k, make in enumerate(each)]
                for seed in bench.seeds
            ]  # fmt: skip
        paths = {
            name: [end.path.round(4).tolist() for end in ends[0]]
            for name, (_, _, ends) in found.items()
        }
        return {"rows": summary(problem, rays, found), "paths": paths}

    settings = {"problem": 36, "place": place, "iterations": [EPO_STEPS, OTHERS_STEPS]}
    return problem, rays, bench.kept(settings | {"seeds": bench.seeds}, make)


def summary(problem, rays, found):
    rows = []
    for name, (rate, steps, ends) in found.items():
        figures = np.array(
            [[after(problem, end, r) for end, r in zip(some, rays, strict=True)] for some in ends]
        )
        there = (figures[..., 0] <= ON_FRONT) & (figures[..., 1] <= ON_RAY)
        front = (figures[..., 0] <= ON_FRONT).sum()
        cells = [name, steps, rate, f"{front} of {there.size}", f"{there.sum()} of {there.size}"]
        rows.append([*cells, *(spread(figures[..., k].mean(axis=1)) for k in (1, 0))])
    return rows


HEADS = ("", "iterations", "rate", "on the front", "and on the ray", "μ", "critical norm")


def draw(axes, problem, rays, paths, title):
    axes.plot(*problem.front(201).T, color="0.8", linewidth=6, zorder=0)
    for r in rays:
        axes.plot([0.0, min(r[1] / r[0], 1.0)], [0.0, min(r[0] / r[1], 1.0)], "--", color="0.7")
    for path in paths:
        (line,) = axes.plot(*path.T, linewidth=1.0)
        axes.plot(*path[-1], "o", color=line.get_color(), markersize=7)
    axes.set(title=title, xlim=(0, 1.02), ylim=(0, 1.02), xlabel="loss 1", ylabel="loss 2")


def figure1(bench):
    """Where linear weights, MGDA, Pareto MTL, EPO and feedback end for four preferences."""
    problem, rays, found = synthetic(bench, "inside")
    paths = {name: np.array(p) for name, p in found["paths"].items() if name != "EPO, 200"}
    figure = Figure(figsize=(15, 3.4), layout="constrained")
    for axes, name in zip(figure.subplots(1, len(paths)), paths, strict=True):
        draw(axes, problem, rays, paths[name][:, -1:], name)
    bench.write("figure1", table(HEADS, found["rows"]), figure)


def figure6(bench):
    """Trajectories of EPO (80 iterations) and Pareto MTL (200) from inside and outside the box."""
    figure = Figure(figsize=(11, 7), layout="constrained")
    lines, shown = [], ("EPO", "Pareto MTL", "feedback")
    for place, row in zip(PLACES, figure.subplots(2, len(shown)), strict=True):
        problem, rays, found = synthetic(bench, place)
        lines += [f"Start {place} the box:", "", *table(HEADS, found["rows"]), ""]
        for axes, name in zip(row, shown, strict=True):
            draw(axes, problem, rays, np.array(found["paths"][name]), f"{name}, {place}")
    bench.write("figure6", lines, figure)


def trace(bench):
    """Eleven preferences in order: each from the solution before it, and each from a new start."""
    heads = ("", "start", "rate", "exact within 200 iterations", "iterations, median", "μ")
    settings = {"figure": "trace", "seeds": bench.seeds, "iterations": OTHERS_STEPS}
    bench.write("trace", table(heads, bench.kept(settings, lambda: traced(bench))["rows"]))


def traced(bench):
    problem, rays, rows = ConcaveProblem(n=20), rays_between(11), []
    for name, make in (("EPO", lambda r: lambda b: pyfront.EPO(b, r)), ("feedback", feedback)):
        each = [make(r) for r in rays]
        rate = tuned(problem, each, np.array(rays), OTHERS_STEPS, "inside")
        for way in ("traced", "new starts"):
            counts, ends = [], []
            for seed in bench.seeds:
                theta = start(problem, seed, "inside")
                for k, (r, one) in enumerate(zip(rays, each, strict=True)):
                    theta = theta if way == "traced" else start(problem, 100 * seed + k, "inside")
                    needed, theta, end = until_there(problem, one, theta, rate, r)
                    counts.append(needed)
                    ends.append(end)
            there = sum(count is not None for count in counts)
            taken = [c for c in counts if c is not None]
            found = [f"{there} of {len(counts)}", float(np.median(taken)) if taken else "none"]
            rows.append([name, way, rate, *found, float(np.mean([mu for _, mu in ends]))])
    return {"rows": rows}


def until_there(problem, make, theta, rate, r, chunk=5):
    """Iterations (None: not within 200) until front and ray are reached, to `chunk` iterations."""
    base = torch.nn.Parameter(theta.clone())
    opt = make(torch.optim.SGD([base], lr=rate))
    needed, found = None, None
    for step in range(1, OTHERS_STEPS + 1):
        opt.step(problem.losses(base))
        if step % chunk == 0 or step == OTHERS_STEPS:
            found = end_of(problem, base, r)
            if found[0] <= ON_FRONT and found[1] <= ON_RAY:
                needed = step
                break
    return needed, base.detach(), found


def end_of(problem, theta, r):
    losses = problem.losses(theta.detach()).numpy()
    return after(problem, End(losses[None], theta.detach(), "ok"), r)


def growth(bench):
    """2 to 32 objectives: error after 200 iterations, and time per step over linear weights'."""
    heads = ("m", "", "largest relative error", "time / linear's")
    settings = {"figure": "growth", "seeds": bench.seeds, "iterations": OTHERS_STEPS}
    bench.write("growth", table(heads, bench.kept(settings, lambda: grown(bench))["rows"]))


def grown(bench):
    rows = []
    for m in (2, 4, 8, 16, 32):
        problem = QuadraticProblem(m, n=1000)
        rng = np.random.default_rng(1)
        rays = (1.0 + 0.3 / m * rng.uniform(-1, 1, (3, m))).tolist()  # few rays meet the front
        methods = {
            "linear": lambda r: lambda b: pyfront.LinearScalarization(b, (r / np.sum(r)).tolist()),
            "EPO": lambda r: lambda b: pyfront.EPO(b, r),
            "feedback": feedback,
        }
        taken = {name: [] for name in methods}
        errors = {name: [] for name in methods}
        for seed in bench.seeds:
            theta = torch.zeros(problem.n, dtype=torch.float64)
            theta[:m] = torch.linspace(0.8, 0.1, m)
            for name, make in methods.items():  # in turns
                began = time.process_time()
                r = rays[seed % 3]
                end = descend(problem, make(r), theta, OTHERS_STEPS, 0.1)
                taken[name].append(time.process_time() - began)
                point = problem.point(r).numpy()
                errors[name].append(np.abs(end.losses / point - 1.0).max())
        for name in methods:
            ratio = np.median(np.divide(taken[name], taken["linear"]))
            rows.append([m, name, float(np.median(errors[name])), f"{ratio:.2f}"])
    return {"rows": rows}


# ------------------------------------------------------------------------------------ sets of data


def rows_of(found, reference=None):
    """A row per method; for single tasks a network per task, judged by its own loss."""
    rows = []
    for label, some in found.items():
        if label != SINGLE:
            cells = measures(some, found["linear"], reference)
            rows.append([*first_cells(label, some), *cells])
    return rows


MEASURES = ("", "passes", "rate", "μ, test", "linear's = 1", "worst r·l, test", "mean loss, test")


def reached(found, limit=0.01):
    """The preferences whose ray some method meets in the mean over the seeds, on the test rows."""
    best = np.min([f.non_uniformity().mean(axis=0) for k, f in found.items() if k != SINGLE], 0)
    return best <= limit


def verdict(found):
    """EPO's non-uniformity against linear's and Pareto MTL's, where rays can be reached."""
    there = reached(found)
    if not there.any():
        return "No method meets a ray on the test rows (μ ≤ 0.01)."
    mu = {label: f.non_uniformity().mean(axis=0) for label, f in found.items() if label != SINGLE}
    said = [
        f"{mu[name][there].mean() / mu[other][there].mean():.2f} of {other}'s for {name}"
        for name in ("EPO", "EPO, smoothed", "feedback")
        for other in ("linear", "Pareto MTL")
    ]
    return (
        f"Rays that some method meets on the test rows (μ ≤ 0.01): {there.sum()} of {len(there)}. "
        f"There μ is {', '.join(said)}."
    )


def figure7(bench):
    """Five preferences on the papers' three sets of two-item pictures."""
    rays = rays_between(5)
    real = ("multi-mnist", "multi-fashion", "multi-fashion-mnist")
    names = tuple(f"{name}-full" for name in real) if bench.full else real
    for name in bench.sets(("multi-digits",), names):
        steps = bench.steps(200, 100 * 120_000 // 256)
        vectors = to_reference_vectors(torch.tensor(rays)).tolist()
        entries = at_rays(rays) | {"Pareto MTL": in_regions(vectors), SINGLE: single_tasks(2)}
        found = compare(bench, name, entries, steps)
        heads = (*MEASURES, "hypervolume to (2, 2)", "best accuracy 1, 2")
        rows = rows_of(found, (2.0, 2.0))
        for row, some in zip(rows, (f for k, f in found.items() if k != SINGLE), strict=True):
            best = 100 * some.accuracy.max(axis=1).mean(axis=0)
            row.append(", ".join(f"{value:.1f}" for value in best))
        own = found[SINGLE]
        single = (
            f"Single tasks: test losses {own.test[:, 0, 0].mean():.3f} and "
            f"{own.test[:, 1, 1].mean():.3f}, accuracies {100 * own.accuracy[:, 0, 0].mean():.1f} "
            f"and {100 * own.accuracy[:, 1, 1].mean():.1f}."
        )
        lines = [about(bench, name, steps), "", *table(heads, rows), "", single, verdict(found)]
        shown = {k: f for k, f in found.items() if k not in (SINGLE, "feedback, constant")}
        limit = 1.05 * max(f.test[0].max() for f in shown.values())
        bench.write(f"figure7-{name}", lines, draw_losses(shown, rays, name, limit))


def figure8(bench):
    """The relative loss profile r∘l of twenty preferences on eight regressions."""
    generator = torch.Generator().manual_seed(1)
    rays = sample(8, 20, generator).clamp_min(0.01)
    rays = (rays / rays.sum(dim=1, keepdim=True)).tolist()
    for name in bench.sets(("teacher-8",), ("riverflow", "riverflow-all")):
        profile(bench, name, rays, bench.steps(200, 10_000), "figure8")


def emotions(bench):
    """One loss per label of music; preferences as for River Flow."""
    for name in bench.sets(("digits",), ("emotions",)):
        tasks = {"digits": 10}.get(name, 6)
        rays = np.random.default_rng(3).uniform(0.1, 1.0, (6, tasks))
        rays = (rays / rays.sum(axis=1, keepdims=True)).tolist()
        profile(bench, name, rays, bench.steps(200, 5000), "emotions")


def profile(bench, name, rays, steps, label):
    vectors = to_reference_vectors(torch.tensor(rays)).tolist()
    entries = at_rays(rays) | {
        "Pareto MTL": in_regions(vectors),
        SINGLE: single_tasks(len(rays[0])),
    }
    found = compare(bench, name, entries, steps)
    own = np.stack([f[np.arange(len(f)), np.arange(len(f))] for f in found[SINGLE].test])
    table_of_tasks = {
        k: (f.preferences * f.test).mean(axis=1) for k, f in found.items() if k != SINGLE
    }
    table_of_tasks[SINGLE] = own * found["linear"].preferences.mean(axis=0)
    lines = [about(bench, name, steps), "", *table(MEASURES, rows_of(found)), ""]
    worst = (np.array(rays) * own[:, None]).max(axis=2).mean()
    lines += [
        f"Single tasks, a network each: worst r·l {worst:.4g}, mean loss {own.mean():.4g}.",
        verdict(found),
    ]
    figure = Figure(figsize=(9, 4.5), layout="constrained")
    axes = figure.subplots()
    axes.set(xlabel="task", ylabel="r·l on the test rows, mean over preferences", title=name)
    places = np.arange(1, len(rays[0]) + 1)
    for (key, values), style in zip(
        table_of_tasks.items(), markers(table_of_tasks).values(), strict=True
    ):
        axes.errorbar(places, values.mean(0), values.std(0), label=key, linewidth=0.9, **style)
    axes.set_ylim(bottom=0.0)
    axes.legend(fontsize=8, ncol=2)
    bench.write(f"{label}-{name}", lines, figure)


FIGURES = {
    "figure1": figure1,
    "figure6": figure6,
    "trace": trace,
    "growth": growth,
    "figure7": figure7,
    "figure8": figure8,
    "emotions": emotions,
}

if __name__ == "__main__":
    main("epo", __doc__, FIGURES)
