"""A step whose cost does not grow with m: time and memory against m backward passes and TorchJD.

Each contender runs in turns with a plain step (one backward pass of the sum, Adam) in one process
and one thread; `ratio_to_plain` is the median over rounds of its processor time over the plain
step's next to it. Memory is the growth of the process's peak resident size over a step, in a
process of its own with every large block handed straight back to the system; `memory_to_plain`
divides it by the plain step's.

    BENCH_FULL=1 python -m pytest bench/test_products.py -q -s    the residual net too, m = 8 and 20
    PRODUCTS_TASKS=2,4,8,16,32,64 BENCH_FULL=1 python -m pytest bench/test_products.py -q -s
"""

import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from lengths import length
from networks import ManyHeads, residual
from torch import nn
from training_steps import adam, floor, torchjd

import pyfront
from pyfront.gradients.products import gramian_product
from pyfront.gradients.replay import Replay

COMPETITORS = ("torchjd",)
ROUNDS = length(2, 7)
TASKS = [int(m) for m in os.environ.get("PRODUCTS_TASKS", length("8", "8,20")).split(",")]


def mlp(tasks):
    trunk = nn.Sequential(nn.Linear(256, 1024), nn.ReLU(), nn.Linear(1024, 1024), nn.ReLU())
    return ManyHeads(trunk, 1024, tasks, (256, 256))


def lenet(tasks):
    trunk = nn.Sequential(
        nn.Conv2d(1, 10, 9), nn.MaxPool2d(2), nn.ReLU(),
        nn.Conv2d(10, 20, 5), nn.MaxPool2d(2), nn.ReLU(),
        nn.Flatten(), nn.Linear(180, 50), nn.ReLU(),
    )  # fmt: skip
    return ManyHeads(trunk, 50, tasks, (256, 1, 28, 28))


MODELS = {"residual": residual, "mlp": mlp, "lenet": lenet}
MEASURED = length(["mlp", "lenet"], list(MODELS))  # a step of the residual net takes seconds


def plain(model, tasks):
    base = adam(model)

    def step():
        sum(model.losses()).backward()
        base.step()
        base.zero_grad()

    return step


def backwards(model, tasks):
    return floor(model, model.losses, keep=True)


def upgrad(model, tasks):
    return torchjd(model, model.losses, "UPGrad", shortcut=True)


def freeing(opt, step):
    """The step, and then no ``.grad``, as in the plain step."""

    def stepped():
        step()
        opt.zero_grad()

    return stepped


def ours(products):
    def make(model, tasks):
        opt = pyfront.SingleLoopMGDA(adam(model), products=products)
        return freeing(opt, lambda: opt.step(model.losses))

    return make


def feedback(model, tasks):
    opt = pyfront.PreferenceFeedback(adam(model), [1.0] * tasks)
    return freeing(opt, lambda: opt.step(model.losses()))


def exact(model, tasks):
    opt = pyfront.MGDA(adam(model))
    return freeing(opt, lambda: opt.step(model.losses()))


def columns(closure):
    def make(model, tasks):
        opt = pyfront.MGDA(adam(model), engine="columns")
        return freeing(opt, lambda: opt.step(model.losses if closure else model.losses()))

    return make


CONTENDERS = {
    "m-backwards": backwards,
    "pyfront-MGDA": exact,
    "pyfront-MGDA-columns": columns(closure=False),
    "pyfront-MGDA-columns-closure": columns(closure=True),
    "pyfront-double-backward": ours("double_backward"),
    "pyfront-forward": ours("forward"),
    "pyfront-difference": ours("difference"),
    "pyfront-feedback": feedback,
    "torchjd-UPGrad-gramian": upgrad,
}


def make_step(model, contender, tasks):
    torch.manual_seed(0)
    torch.set_num_threads(1)
    make = plain if contender == "plain" else CONTENDERS[contender]
    return make(MODELS[model](tasks), tasks)


def peak_growth(model, contender, tasks):
    """Growth of the peak resident size over a step, MiB, in this process."""
    step = make_step(model, contender, tasks)
    step()  # optimizer state and libraries
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak
    sizes = Path("/proc/self/status").read_text().splitlines()
    before = next(int(line.split()[1]) for line in sizes if line.startswith("VmRSS"))
    step()
    sizes = Path("/proc/self/status").read_text().splitlines()
    return (
        next(int(line.split()[1]) for line in sizes if line.startswith("VmHWM")) - before
    ) / 1024


def peak_of(model, contender, tasks):
    if not sys.platform.startswith("linux"):
        pytest.skip("peak memory is read from Linux's /proc")
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, __file__, model, contender, str(tasks)]
    found = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return float(found.stdout)


_plain_peaks = {}


@pytest.mark.parametrize("contender", CONTENDERS)
@pytest.mark.parametrize("tasks", TASKS)
@pytest.mark.parametrize("model", MEASURED)
def test_step(benchmark, model, tasks, contender):
    benchmark.group = f"products {model} m={tasks}"
    steps = [make_step(model, name, tasks) for name in ("plain", contender)]
    times = [[], []]
    for round_ in range(ROUNDS + 1):
        for step, seconds in zip(steps, times, strict=True):
            start = time.process_time()
            step()
            if round_:
                seconds.append(time.process_time() - start)
    ratio = statistics.median(b / a for a, b in zip(*times, strict=True))
    if (model, tasks) not in _plain_peaks:
        _plain_peaks[model, tasks] = peak_of(model, "plain", tasks)
    base, memory = _plain_peaks[model, tasks], peak_of(model, contender, tasks)
    benchmark.extra_info.update(
        ratio_to_plain=ratio, memory_mib=memory, memory_to_plain=memory / base
    )
    benchmark.pedantic(steps[1], rounds=1)
    print(
        f"{model:9} m={tasks:2} {contender:24} plain {1e3 * min(times[0]):7.1f} ms"
        f"  ratio {ratio:6.2f}  memory {memory:7.1f} MiB ({memory / base:.2f} of plain)"
    )


@pytest.mark.parametrize("model", MEASURED)
@pytest.mark.parametrize("products", ["double_backward", "forward", "difference"])
def test_error_of_the_product(benchmark, model, products):
    """Largest error of C w relative to its largest entry, against the explicit Gramian."""
    torch.manual_seed(0)
    net = MODELS[model](8)
    params = list(net.parameters())
    replay = Replay(net.losses)
    losses = replay.first()
    v = torch.full((8,), 1 / 8, dtype=torch.float64)
    rows = [torch.autograd.grad(x, params, retain_graph=True, allow_unused=True) for x in losses]
    expected = pyfront.functional.gramian(rows) @ v
    found = gramian_product(losses, params, v, products=products, replay=replay, retain_graph=True)
    error = (torch.from_numpy(found.values) - expected).abs().max() / expected.abs().max()
    benchmark.extra_info.update(relative_error=error.item())
    benchmark.pedantic(lambda: None)
    print(f"{model:9} {products:16} relative error of C w {error.item():.1e}")


if __name__ == "__main__":
    print(peak_growth(sys.argv[1], sys.argv[2], int(sys.argv[3])))
