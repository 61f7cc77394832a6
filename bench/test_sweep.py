"""The whole sweep of the demo: two worker processes against one run after the other.

All runs of the demo (EPO and linear scalarization at five preferences, MGDA) at its own number of
steps, start of the workers included. Each contender runs in turns with the plain loop on one
thread; `speed_up` in `extra_info` is the median over rounds of the loop's seconds over its own, and
`same_results` whether all losses are those of the loop, bit for bit. `EPOCHS=2` in the environment
makes it short, at the cost of a start of the workers that then counts for more.
"""

import functools
import os
import statistics
import time
from pathlib import Path

import pytest
import torch
from lengths import length

import pyfront
from pyfront.cli import demo, demo_training
from pyfront.datasets import multi_digits

COMPETITORS = ("scikit-learn",)
EPOCHS = int(os.environ.get("EPOCHS", length(3, demo_training.EPOCHS[12])))
ROUNDS = 2


@pytest.fixture(scope="module")
def problem():
    """The runs of the demo, and what trains one of them."""
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    preferences = demo_training.rays_between(5)
    train = functools.partial(
        demo_training.solve,
        preferences=preferences,
        data=multi_digits(train=demo_training.TRAIN, test=demo_training.TEST),
        epochs=EPOCHS,
        seed=0,
        checkpoint=Path("unused"),  # by the methods of the default
    )
    return train, demo_training.plan(demo._DEFAULT, preferences)


def loop(threads):
    def solve(train, runs):
        torch.set_num_threads(threads)
        return [train(run, lambda *_: None) for run in runs]

    return solve


def workers(count):
    def solve(train, runs):
        steps = demo_training.steps_of(train.keywords["data"], EPOCHS)
        return list(pyfront.sweep(train, runs, workers=count, steps=steps, progress=False))

    return solve


CONTENDERS = {
    "loop-2-threads": loop(2),
    "sweep-1-worker": workers(1),
    "sweep-2-workers": workers(2),
}


def timed(solve, problem):
    begin = time.perf_counter()
    solutions = solve(*problem)
    return time.perf_counter() - begin, [(s.train_losses, s.test_losses) for s in solutions]


@pytest.mark.parametrize("contender", CONTENDERS)
def test_sweep(benchmark, problem, contender):
    benchmark.group = "sweep of the demo"
    mine, base, same = [], [], True
    for _ in range(ROUNDS):
        seconds, expected = timed(loop(1), problem)
        base.append(seconds)
        seconds, found = timed(CONTENDERS[contender], problem)
        mine.append(seconds)
        same = same and found == expected
    speed_up = statistics.median(b / a for a, b in zip(mine, base, strict=True))
    benchmark.extra_info.update(speed_up=speed_up, same_results=same, seconds=mine, loop=base)
    benchmark.pedantic(lambda: None)  # it is timed above, in turns
    print(
        f"{contender:16} {statistics.median(mine):7.1f} s, loop {statistics.median(base):7.1f} s:"
        f" {speed_up:.2f} times as fast, same results: {same}"
    )
