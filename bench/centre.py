"""EPO on the mini-batches of `pyfront demo`: its steps and batches, r = (0.5, 0.5) by default.

    python bench/centre.py [--preference 0.5 0.5] [--seeds 3] [--folder DIR] [--methods NAME ...]

Every run is the demo's: LeNet on MultiDigits, 400 steps of 1000 rows, Adam at 0.01 with cosine
decay, the data of its seed. Losses are those of the whole training and test sets. With --folder,
runs that have ended are kept there and not repeated.
"""

import argparse
import dataclasses
import functools
import time

import numpy as np
import torch
from torch.nn.functional import cross_entropy

import pyfront
from pyfront.cli.demo_training import EPOCHS, TEST, TRAIN, LeNet, steps_of
from pyfront.datasets import multi_digits
from pyfront.functional import non_uniformity

BATCH = 1000


class AveragedEPO(pyfront.EPO):
    """EPO that decides on running averages of the losses and of C."""

    def __init__(self, base, preference, *, of_losses, of_gramian, **options):
        super().__init__(base, preference, **options)
        self.of_losses, self.of_gramian, self.kept = of_losses, of_gramian, None

    def decide(self, losses, gramian, preference):
        if self.kept is None:
            self.kept = (losses, gramian)
        before, parts = self.kept, (losses, gramian)
        shares = (self.of_losses, self.of_gramian)
        self.kept = tuple(
            share * old + (1.0 - share) * new
            for share, old, new in zip(shares, before, parts, strict=True)
        )
        return super().decide(*self.kept, preference)


class StartedEPO(pyfront.EPO):
    """EPO whose weights are averaged from another start than the first decision.

    Args:
        smoothing: s, as ``weight_smoothing``.
        start: "decision" begins at the first one; "corrected" is the mean of those so far until
            there are as many as the running average is long, s_t = min(s, t / (t + 1)).
    """

    def __init__(self, base, preference, *, smoothing, start, **options):
        super().__init__(base, preference, **options)
        self.smoothing, self.begin, self.mean, self.count = smoothing, start, None, 0

    def decide(self, losses, gramian, preference):
        report = super().decide(losses, gramian, preference)
        if self.mean is None:
            self.mean = report.weights
        s = self.smoothing
        if self.begin == "corrected":
            s = min(s, self.count / (self.count + 1))
        self.mean = s * self.mean + (1.0 - s) * report.weights
        self.count += 1
        return dataclasses.replace(report, weights=self.mean.clone())


SMOOTHINGS = (0.9, 0.98, 0.99)
METHODS = {
    "linear": pyfront.LinearScalarization,
    "feedback": pyfront.PreferenceFeedback,
    "EPO": pyfront.EPO,
    **{
        f"EPO, weight_smoothing={s}": functools.partial(pyfront.EPO, weight_smoothing=s)
        for s in SMOOTHINGS
    },
    **{
        f"smoothing {s}, begun at the first decision": functools.partial(
            StartedEPO, smoothing=s, start="decision"
        )
        for s in SMOOTHINGS
    },
    "smoothing 0.98, mean of the first decisions": functools.partial(
        StartedEPO, smoothing=0.98, start="corrected"
    ),
    "averages (0.9) of losses and C": functools.partial(AveragedEPO, of_losses=0.9, of_gramian=0.9),
    "averages (0.9) of C, weight_smoothing=0.98": functools.partial(
        AveragedEPO, of_losses=0.0, of_gramian=0.9, weight_smoothing=0.98
    ),
}


@functools.lru_cache(maxsize=1)
def data_of(seed):
    return multi_digits(train=TRAIN, test=TEST, seed=seed)


def losses_of(model, images, labels):
    logits = model(images)
    return [cross_entropy(z, labels[:, task]) for task, z in enumerate(logits)]


def train(run, advance, *, r, epochs):
    """Train one of the runs (method, seed), with what the demo draws at that seed."""
    name, seed = run
    data = data_of(seed)
    torch.manual_seed(seed)
    model = LeNet(data.train_images.shape[-1])
    opt = METHODS[name](torch.optim.Adam(model.parameters(), lr=1e-2), r)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(opt.base, steps_of(data, epochs))
    began, weights = time.process_time(), []
    for _ in range(epochs):
        for batch in torch.split(torch.randperm(TRAIN), BATCH):
            report = opt.step(losses_of(model, data.train_images[batch], data.train_labels[batch]))
            weights.append(report.weights[0].item())
            schedule.step()
            advance()
    took = time.process_time() - began
    with torch.no_grad():
        parts = [
            [loss.item() for loss in losses_of(model, images, labels)]
            for images, labels in (
                (data.train_images, data.train_labels),
                (data.test_images, data.test_labels),
            )
        ]
    return pyfront.Solution(
        method=name,
        preference=r,
        train_losses=parts[0],
        test_losses=parts[1],
        metrics={
            "non-uniformity": non_uniformity(parts[0], r),
            "seconds": took,
            "change": float(np.abs(np.diff(weights)).mean()),
            "spread": float(np.std(weights[len(weights) // 2 :])),
        },
    )


def main(args):
    methods = dict.fromkeys(["linear", *args.methods])
    runs = [(name, seed) for seed in range(args.seeds) for name in methods]
    front = pyfront.sweep(
        functools.partial(train, r=tuple(args.preference), epochs=args.epochs),
        runs,
        workers=0,
        folder=args.folder,
        steps=args.epochs * TRAIN // BATCH,
    )
    parts = front.by_method()
    base = parts["linear"]
    print("| | training losses | mean, linear's = 1 | test | μ | change of w₁ a step | seconds |")
    print("|---|---|---|---|---|---|---|")
    for name, part in parts.items():
        ratios = [
            part.losses(split).mean(axis=1) / base.losses(split).mean(axis=1)
            for split in ("train", "test")
        ]
        cells = [
            "{:.4f}, {:.4f}".format(*part.losses("train").mean(axis=0)),
            *(f"{ratio.mean():.3f} ± {ratio.std():.3f}" for ratio in ratios),
            f"{part.metric('non-uniformity').mean():.5f}",
            f"{part.metric('change').mean():.3f}",
            f"{part.metric('seconds').mean():.1f}",
        ]
        print(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--preference", nargs=2, type=float, default=(0.5, 0.5))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=EPOCHS[12])
    parser.add_argument("--folder", help="where finished runs are kept")
    main(parser.parse_args())
