"""Results of benchmarks as one table, and against those of another run.

    python bench/results.py table RUN.json
    python bench/results.py compare BEFORE.json AFTER.json

What counts is a ratio inside one run: over the floor where a benchmark measures one in turns with
itself, else over the fastest other contender of its group. `compare` exits with 1 where a ratio of
ours is worse beyond noise: the quartiles of the two runs lie apart, and the medians by more than a
margin, 5% for what is measured in turns and 25% for the rest.
"""

import json
import sys
from pathlib import Path
from typing import NamedTuple

IN_TURNS = ("ratio_to_floor", "over_floor", "ratio_to_plain", "ratio_to_step")
MARGIN = {True: 0.05, False: 0.25}  # by whether the ratio was measured in turns


class Result(NamedTuple):
    """One benchmark of one run; `ratio` is None where there is nothing to compare with."""

    group: str
    name: str
    seconds: float
    ratio: float | None
    low: float
    high: float
    in_turns: bool
    ours: bool


def read(path):
    """Results by name, and what the run says of itself."""
    run = json.loads(Path(path).read_text("utf-8"))
    groups = {}
    for bench in run["benchmarks"]:
        groups.setdefault(bench["group"], []).append(bench)
    results = [result(bench, group) for group in groups.values() for bench in group]
    return {f"{r.group}: {r.name}": r for r in results}, run


def is_ours(bench):
    """Whether a benchmark times pyfront, by its name."""
    return "pyfront" in bench["name"] or "ours" in bench["name"]


def result(bench, group):
    stats, extra = bench["stats"], bench["extra_info"]
    median, ours = stats["median"], is_ours(bench)
    ratio, low, high = None, 0.0, 0.0
    key = next((key for key in IN_TURNS if key in extra), None)
    if key is not None:
        ratio = extra[key]
        low, high = extra.get("quartiles", (ratio, ratio))
    else:
        others = [b["stats"]["median"] for b in group if not is_ours(b)]
        if ours and others:
            ratio, low, high = (stats[x] / min(others) for x in ("median", "q1", "q3"))
    name = bench["name"].removeprefix("test_")
    return Result(bench["group"] or "", name, median, ratio, low, high, key is not None, ours)


def is_loss(before, after):
    """Whether a ratio is worse beyond noise."""
    apart = after.low > before.high
    return apart and after.ratio > before.ratio * (1.0 + MARGIN[after.in_turns])


def losses(before, after):
    """Names of our results that are worse in the second run, with both ratios."""
    both = [name for name in after if name in before and after[name].ours]
    pairs = [(name, before[name], after[name]) for name in both if before[name].ratio is not None]
    return [(name, b.ratio, a.ratio) for name, b, a in pairs if a.ratio and is_loss(b, a)]


def table(results, run):
    """Lines of Markdown: the machine and the versions, then a row per benchmark."""
    machine, extra = run["machine_info"], run["benchmarks"][0]["extra_info"]
    cpu = machine.get("cpu", {})
    versions = {}
    for bench in run["benchmarks"]:
        versions |= bench["extra_info"].get("versions", {})
    yield f"- date: {run['datetime'][:16]}, commit {extra.get('commit', 'unknown')}"
    yield f"- machine: {cpu.get('brand_raw', machine['machine'])}, {cpu.get('count', '?')} cores"
    yield f"- Python {machine['python_version']}; " + ", ".join(
        f"{name} {number}" for name, number in sorted(versions.items())
    )
    yield "- threads: 1, where the name of a group does not say otherwise"
    yield ""
    yield "| group | benchmark | ms | ratio | quartiles |"
    yield "|---|---|---|---|---|"
    for r in results.values():
        ratio = "" if r.ratio is None else f"{r.ratio:.3g}"
        spread = "" if r.ratio is None else f"{r.low:.3g} to {r.high:.3g}"
        name = f"**{r.name}**" if r.ours else r.name
        yield f"| {r.group} | {name} | {1e3 * r.seconds:.4g} | {ratio} | {spread} |"


def main(command, *paths):
    if command == "table":
        print("\n".join(table(*read(paths[0]))))
        return 0
    (before, _), (after, _) = map(read, paths)
    compared = [n for n in after if n in before and after[n].ours and after[n].ratio]
    found = losses(before, after)
    for name, was, now in found:
        print(f"LOSS {name}: ratio {was:.3g} before, {now:.3g} now")
    print(f"{len(compared)} compared, {len(found)} worse beyond noise")
    if not compared:
        print("the two runs have nothing in common")
    return int(bool(found) or not compared)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
