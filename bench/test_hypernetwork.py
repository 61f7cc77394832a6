"""A hypernetwork against the plain main network: latency of inference, memory of training.

Both run in turns, so that drift of the machine hits both alike; `ratio_to_plain` in `extra_info` is
the median over rounds of the time over the plain network's next to it. Generating costs about n d
multiplications for n entries and d features, whatever the batch: little beside a convolution on a
batch of 256 (`lenet`), much beside a large linear layer on a batch of 32 (`wide`).
"""

import itertools
import statistics

import pytest
import torch
from stopwatch import seconds
from torch import nn

import pyfront

ROUNDS = 31


class LeNet(nn.Module):
    """The paper's size: 84K parameters on 28 × 28 pictures."""

    def __init__(self):
        super().__init__()
        self.trunk = nn.Sequential(
            nn.Conv2d(1, 10, 5), nn.MaxPool2d(2), nn.ReLU(),
            nn.Conv2d(10, 20, 5), nn.MaxPool2d(2), nn.ReLU(),
            nn.Flatten(), nn.Linear(320, 230), nn.ReLU(),
        )  # fmt: skip
        self.heads = nn.ModuleList(nn.Linear(230, 10) for _ in range(2))

    def forward(self, x):
        z = self.trunk(x)
        return [head(z) for head in self.heads]


class Wide(nn.Module):
    """Mostly parameters: 4.2 million of them, and batches of 32."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(784, 1600), nn.ReLU(), nn.Linear(1600, 1800), nn.ReLU(), nn.Linear(1800, 20)
        )

    def forward(self, x):
        return self.layers(x.flatten(1)).split(10, dim=1)


MODELS = {"lenet": (LeNet, 256), "wide": (Wide, 32)}


def ways(name):
    make, batch = MODELS[name]
    torch.manual_seed(0)
    model, x = make().eval(), torch.randn(batch, 1, 28, 28)
    net = pyfront.HyperNetwork(model, 2).eval()
    generated = net.generate([0.3, 0.7])
    net.switch([0.3, 0.7])
    drawn = pyfront.preferences.sample(2, 1000).float()
    places = iter(drawn.repeat(100, 1))
    return {
        "plain": lambda: model(x),
        "preference": lambda: net(x, preference=next(places)),
        "generated": lambda: generated(x),
        "switched": lambda: net(x),
        "switching": lambda: net.switch(next(places)),
    }


@pytest.mark.parametrize("way", ["preference", "generated", "switched", "switching"])
@pytest.mark.parametrize("name", MODELS)
def test_latency(benchmark, name, way):
    """One batch, a fresh preference each; `switching` is the switch alone."""
    benchmark.group = f"latency {name}"
    runs = ways(name)
    with torch.no_grad():
        for run in runs.values():
            run()
        ratios = []
        for _ in range(ROUNDS):
            plain = seconds(runs["plain"])
            ratios.append(seconds(runs[way]) / plain)
        benchmark.extra_info["ratio_to_plain"] = statistics.median(ratios)
        benchmark.pedantic(runs[way], rounds=ROUNDS)


def training_memory(name, hyper):
    """The largest sum of bytes that torch's allocator holds while a model is made and trained."""
    make, batch = MODELS[name]
    with torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
    ) as profile:
        x = torch.randn(batch, 1, 28, 28)
        model, options = make(), {}
        if hyper:
            model, options = pyfront.HyperNetwork(model, 2), {"preference": [0.3, 0.7]}
        opt = torch.optim.Adam(model.parameters())
        for _ in range(3):
            opt.zero_grad()
            sum(y.square().mean() for y in model(x, **options)).backward()
            opt.step()
    events = profile.profiler.kineto_results.events()
    changes = sorted((e.start_ns(), e.nbytes()) for e in events if e.name() == "[memory]")
    return max(itertools.accumulate(size for _, size in changes))


@pytest.mark.parametrize("name", MODELS)
def test_training_memory(benchmark, name):
    """Peak of the bytes held in three steps with Adam; the time is that of the profiler."""
    benchmark.group = "training memory"
    plain, hyper = training_memory(name, False), training_memory(name, True)
    benchmark.extra_info.update(
        plain_mib=plain / 2**20, hyper_mib=hyper / 2**20, ratio_to_plain=hyper / plain
    )
    benchmark.pedantic(training_memory, args=(name, True), rounds=1)
