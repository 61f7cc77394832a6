"""How time and memory grow with n, m and the number of tensors, one axis at a time.

    python bench/growth.py                    # small: a minute
    python bench/growth.py --full             # n to 1e8, m to 64, 10 000 tensors, within 8 GiB
    python bench/growth.py --picture growth.png

Timed is one decision and direction of MGDA on gradients that are there: Gramian, weights, d. Memory
is the peak that torch allocates beside the gradients. The slope is that of log y on log x by least
squares over the larger half of the points, where constants count least.
"""

import argparse
import statistics

import numpy as np
import torch
from stopwatch import seconds

import pyfront

AXES = {
    "n": ([10**4, 10**5, 10**6], [10**4, 10**5, 10**6, 10**7, 10**8]),
    "m": ([2, 4, 8, 16], [2, 4, 8, 16, 32, 64]),
    "tensors": ([10, 100, 1000], [10, 100, 1000, 10_000]),
}
FIXED = {"n": 10**6, "m": 4, "tensors": 10}


def gradients(n, m, tensors):
    """m gradients of n entries in all, in so many tensors."""
    sizes = [n // tensors + (k < n % tensors) for k in range(tensors)]
    return [[torch.randn(size) for size in sizes] for _ in range(m)]


def decide(rows):
    c = pyfront.functional.gramian(rows)
    return pyfront.functional.combine(rows, pyfront.functional.min_norm_weights(c).weights)


def peak(call):
    """The most bytes that torch's allocator holds beyond those at the start."""
    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities, profile_memory=True) as profile:
        kept = call()  # noqa: F841  # so that what it returns counts to the end
    events = profile.profiler.kineto_results.events()
    changes = sorted((e.start_ns(), e.nbytes()) for e in events if e.name() == "[memory]")
    return max(np.cumsum([size for _, size in changes], dtype=np.int64), default=0)


def measured(point, rounds):
    """Seconds (median) and bytes for one point; 0 bytes stand for less than a page."""
    rows = gradients(**point)
    decide(rows)
    taken = statistics.median(seconds(lambda: decide(rows)) for _ in range(rounds))
    return taken, int(peak(lambda: decide(rows)))


def slope(xs, ys):
    """That of log y on log x over the larger half of the points; None for fewer than two > 0."""
    kept = [(x, y) for x, y in zip(xs, ys, strict=True) if y > 0][len(xs) // 2 - 1 :]
    if len(kept) < 2:
        return None
    x, y = np.log(np.array(kept, dtype=float)).T
    return float(np.polyfit(x, y, 1)[0])


def fits(point, limit):
    """Whether the gradients and one direction stay below so many bytes."""
    return 4 * point["n"] * (point["m"] + 1) <= limit


def axis_of(name, values, *, limit, rounds):
    """The values that fit, with their seconds and bytes."""
    points = [FIXED | {name: value} for value in values]
    points = [point for point in points if fits(point, limit)]
    found = [measured(point, rounds) for point in points]
    times, sizes = zip(*found, strict=True)
    return [point[name] for point in points], times, sizes


def lines(name, axis, left_out):
    xs, times, sizes = axis
    fixed = ", ".join(f"{key} = {value}" for key, value in FIXED.items() if key != name)
    yield f"\nagainst {name} ({fixed})\n"
    yield f"| {name} | ms | MiB beside the gradients |\n|---|---|---|"
    for x, taken, size in zip(xs, times, sizes, strict=True):
        yield f"| {x} | {1e3 * taken:.4g} | {size / 2**20:.4g} |"
    slopes = ["none" if s is None else f"{s:.2f}" for s in (slope(xs, times), slope(xs, sizes))]
    yield f"| slope | {slopes[0]} | {slopes[1]} |"
    if left_out:
        yield f"\nleft out, beyond the limit of memory: {left_out}"


def draw(path, axes):
    import matplotlib.pyplot as plt

    figure, rows = plt.subplots(2, len(axes), figsize=(4 * len(axes), 6), squeeze=False)
    for column, (name, (xs, times, sizes)) in enumerate(axes.items()):
        for row, ys, label in ((0, times, "seconds"), (1, sizes, "bytes")):
            rows[row][column].loglog(xs, ys, "o-")
            rows[row][column].set(xlabel=name, ylabel=label)
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--axis", choices=AXES, action="append")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--limit", type=float, default=8.0, help="GiB")
    parser.add_argument("--picture")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    print(f"pyfront {pyfront.__version__}, torch {torch.__version__}, one thread")
    axes, limit = {}, given.limit * 2**30
    for name in given.axis or AXES:
        values = AXES[name][given.full]
        axes[name] = axis_of(name, values, limit=limit, rounds=given.rounds)
        print("\n".join(lines(name, axes[name], [x for x in values if x not in axes[name][0]])))
    if given.picture:
        draw(given.picture, axes)


if __name__ == "__main__":
    main()
