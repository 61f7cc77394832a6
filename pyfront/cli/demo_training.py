"""The training of `python -m pyfront demo`: a small LeNet by every method, one network for all."""

import functools
import io
import itertools
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import pyfront
from pyfront._utils.files import atomic_write
from pyfront.datasets import TwoItems
from pyfront.front.front import Front, Solution
from pyfront.preferences import circle, sample, to_reference_vectors
from pyfront.sweeps import sweep

__all__ = [
    "EPOCHS",
    "METHODS",
    "PREFERENCES",
    "TEST",
    "TRAIN",
    "DemoRun",
    "LeNet",
    "along_the_front",
    "plan",
    "rays_between",
    "solve",
    "steps_of",
]

TRAIN, TEST = 20_000, 5_000  # pictures
EPOCHS = {12: 20, 28: 5}  # by the width of the pictures: about two minutes on two cores
# Large batches: EPO balances the losses of a batch, and their noise moves it off the ray.
_BATCH = {12: 1000, 28: 500}
_WARMUP = 100  # steps of Pareto MTL towards its region
_ALONG = 21  # preferences at which the controllable network is measured

Preference: TypeAlias = tuple[float, ...]
#: The rays of the default run: two moderate ones, and one that asks for a ratio of 4.
PREFERENCES: tuple[Preference, ...] = ((0.35, 0.65), (0.5, 0.5), (0.8, 0.2))
#: A key of METHODS, and its preference if it has one.
DemoRun: TypeAlias = tuple[str, Preference | None]


@dataclass(frozen=True)
class Method:
    """A method of the demo.

    Args:
        name: in the table.
        takes_preference: whether there is one run per preference, or a single run.
        passes: backward passes per step.
        wrap: makes the method from a base optimizer, a preference, and all K preferences.
        rate: Adam's learning rate at the start.
        controllable: one hypernetwork for every preference, in as many steps as K other runs.
    """

    name: str
    takes_preference: bool
    passes: int
    wrap: Callable[[torch.optim.Optimizer, Preference, Sequence[Preference]], Any]
    rate: float = 1e-2
    controllable: bool = False


def _pareto_mtl(
    base: torch.optim.Optimizer, r: Preference, preferences: Sequence[Preference]
) -> pyfront.ParetoMTL:
    """Make Pareto MTL for the region around the ray of `r` among those of all preferences.

    Constraints act from half-way between the ray and the edge of the region on: (u_j − u_k)ᵀ u_k is
    −(1 − u_jᵀu_k) on the ray and 0 at the edge, and the losses of batches scatter.
    """
    vectors = to_reference_vectors(torch.tensor(preferences, dtype=torch.float64))
    index = preferences.index(r)
    cosines = (vectors @ vectors[index]).tolist()
    nearest = max((c for j, c in enumerate(cosines) if j != index), default=1.0)
    margin = 0.5 * (1.0 - nearest)
    return pyfront.ParetoMTL(base, vectors, index, warmup_steps=_WARMUP, epsilon=margin)


def _proportional(base: torch.optim.Optimizer, *_: Any) -> pyfront.PreferenceFeedback:
    """Make feedback for a preference per step; batches are noisy, hence k = 10."""
    return pyfront.PreferenceFeedback(base, [0.5, 0.5], proportional=10.0)


#: What `--method` takes; the first three by default. The weights of those sum to 1, so one learning
#: rate suits them; Adam takes out the scale of Pareto MTL's.
METHODS = {
    "feedback": Method("feedback", True, 1, lambda base, r, _: pyfront.PreferenceFeedback(base, r)),
    "epo": Method("EPO", True, 2, lambda base, r, _: pyfront.EPO(base, r, weight_smoothing=0.98)),
    "linear": Method("linear", True, 1, lambda base, r, _: pyfront.LinearScalarization(base, r)),
    "mgda": Method("MGDA", False, 2, lambda base, *_: pyfront.MGDA(base)),
    "pareto-mtl": Method("ParetoMTL", True, 2, _pareto_mtl),
    "controllable": Method("controllable", False, 1, _proportional, rate=3e-3, controllable=True),
}


class LeNet(nn.Module):
    """LeNet with one head per task, without dropout and batch statistics.

    Args:
        size: height and width of the pictures, ≥ 4.

    Example:
        >>> [logits.shape for logits in LeNet(12)(torch.zeros(5, 1, 12, 12))]
        [torch.Size([5, 10]), torch.Size([5, 10])]
    """

    def __init__(self, size: int) -> None:
        """See the class."""
        super().__init__()
        self.trunk = nn.Sequential(  # max and ReLU commute; this order is a quarter faster
            *(nn.Conv2d(1, 8, 3, padding=1), nn.MaxPool2d(2), nn.ReLU()),
            *(nn.Conv2d(8, 16, 3, padding=1), nn.MaxPool2d(2), nn.ReLU()),
            *(nn.Flatten(), nn.Linear(16 * (size // 4) ** 2, 50), nn.ReLU()),
        )
        self.heads = nn.ModuleList(nn.Linear(50, 10) for _ in range(2))

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return logits of both tasks, each [N, 10], for images [N, 1, size, size]."""
        features = self.trunk(images)
        return [head(features) for head in self.heads]


def steps_of(data: TwoItems, epochs: int) -> int:
    """Return the number of steps of a run."""
    return epochs * TRAIN // _BATCH[data.train_images.shape[-1]]


def _task_losses(logits: Sequence[Tensor], labels: Tensor) -> list[Tensor]:
    return [cross_entropy(z, labels[:, task]) for task, z in enumerate(logits)]


def _train(
    model: nn.Module,
    opt: Any,
    data: TwoItems,
    epochs: int,
    advance: Callable[[], None],
    draw: Callable[[], Tensor] | None = None,
) -> None:
    """Train with cosine decay to 0; `draw` returns a preference per step for model and method."""
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(opt.base, steps_of(data, epochs))
    for _ in range(epochs):
        for batch in torch.split(torch.randperm(TRAIN), _BATCH[data.train_images.shape[-1]]):
            asked = {} if draw is None else {"preference": draw()}
            logits = model(data.train_images[batch], **asked)
            opt.step(_task_losses(logits, data.train_labels[batch]), **asked)
            schedule.step()
            advance()


@torch.no_grad()
def _evaluate(model: nn.Module, images: Tensor, labels: Tensor) -> tuple[list[float], list[float]]:
    """Return losses and accuracies of both tasks on a whole set."""
    logits = [
        torch.cat(parts) for parts in zip(*map(model, torch.split(images, 1000)), strict=True)
    ]
    hits = [(z.argmax(1) == labels[:, task]).double().mean() for task, z in enumerate(logits)]
    return [loss.item() for loss in _task_losses(logits, labels)], [hit.item() for hit in hits]


def _measure(
    model: nn.Module, data: TwoItems, method: str, r: Preference | None, cost: dict[str, float]
) -> Solution:
    """Measure a trained model on the whole training and test sets; `cost` is what it took."""
    train, _ = _evaluate(model, data.train_images, data.train_labels)
    test, accuracies = _evaluate(model, data.test_images, data.test_labels)
    metrics = {**cost, "accuracy_1": accuracies[0], "accuracy_2": accuracies[1]}
    if r is not None:
        metrics |= {
            "train_non_uniformity": pyfront.functional.non_uniformity(train, r),
            "test_non_uniformity": pyfront.functional.non_uniformity(test, r),
            "train_worst_relative_loss": max(r[0] * train[0], r[1] * train[1]),
            "test_worst_relative_loss": max(r[0] * test[0], r[1] * test[1]),
        }
    return Solution(
        method=method,
        preference=r,
        train_losses=train,
        test_losses=test,
        metrics=metrics,
    )


def _network(size: int) -> pyfront.HyperNetwork:
    """Make the network for all preferences, twice as large as the model that it generates."""
    return pyfront.HyperNetwork(LeNet(size), 2, size=2.0)


def solve(
    run: DemoRun,
    advance: Callable[[], None],
    *,
    preferences: Sequence[Preference],
    data: TwoItems,
    epochs: int,
    seed: int,
    checkpoint: Path,
) -> Solution:
    """Train one model: the same start and the same batches for every run.

    A controllable network is saved to `checkpoint` and measured at the even preference.
    """
    method, r = METHODS[run[0]], run[1]
    begin = time.perf_counter()
    torch.manual_seed(seed)
    size, passes = data.train_images.shape[-1], method.passes * steps_of(data, epochs)
    if not method.controllable:
        model = LeNet(size)
        _train(model, _optimizer(method, model, r, preferences), data, epochs, advance)
        return _measure(model, data, method.name, r, _cost(begin, passes))
    net, times = _network(size), len(preferences)
    opt = _optimizer(method, net, None, preferences)
    every = _every(times, advance)
    _train(net, opt, data, times * epochs, every, lambda: sample(2, 1)[0])
    cost = _cost(begin, times * passes)
    content = io.BytesIO()  # torch itself reports a full disk as a RuntimeError without a name
    torch.save(net.state_dict(), content)
    with atomic_write(checkpoint) as part:
        part.write_bytes(content.getvalue())
    return _measure(net.generate([0.5, 0.5]), data, method.name, (0.5, 0.5), cost)


def _cost(begin: float, passes: int) -> dict[str, float]:
    return {"backward_passes": float(passes), "seconds": time.perf_counter() - begin}


def _optimizer(
    method: Method, model: nn.Module, r: Preference | None, preferences: Sequence[Preference]
) -> Any:
    base = torch.optim.Adam(model.parameters(), lr=method.rate)
    return method.wrap(base, r or (), preferences)


def _every(times: int, advance: Callable[[], None]) -> Callable[[], None]:
    """Call `advance` once per `times` calls: in a sweep's bar all runs have the same length."""
    count = itertools.count(1)
    return lambda: advance() if next(count) % times == 0 else None


def along_the_front(
    data: TwoItems, checkpoint: Path, cost: dict[str, float], workers: int | None
) -> Front:
    """Measure a saved network along the front; each solution gets its share of the cost."""
    share = {name: value / _ALONG for name, value in cost.items()}
    measure = functools.partial(_measure_at, data=data, checkpoint=checkpoint, cost=share)
    return sweep(measure, rays_between(_ALONG), workers=workers, progress=False)


def _measure_at(
    r: Preference, *, data: TwoItems, checkpoint: Path, cost: dict[str, float]
) -> Solution:
    net = _network(data.train_images.shape[-1])
    net.load_state_dict(torch.load(checkpoint, weights_only=True))
    return _measure(net.generate(r), data, "controllable", r, cost)


def rays_between(count: int) -> list[Preference]:
    """Return K preferences whose rays l ∝ 1/r are evenly spread."""
    inverse = 1.0 / circle(count + 2)[1:-1]
    return [tuple(r) for r in (inverse / inverse.sum(dim=1, keepdim=True)).tolist()]


def plan(methods: Iterable[str], preferences: Sequence[Preference]) -> list[DemoRun]:
    """List the runs: a method at every preference, once if it takes none; the longest first."""
    runs: list[DemoRun] = []
    for name in (name for name in METHODS if name in methods):
        takes_one = METHODS[name].takes_preference
        runs += [(name, r) for r in preferences] if takes_one else [(name, None)]
    return sorted(runs, key=lambda run: not METHODS[run[0]].controllable)
