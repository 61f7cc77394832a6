"""`python -m pyfront demo`: EPO, linear scalarization and MGDA on pictures of two items."""

import argparse
import functools
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import pyfront
from pyfront._extras import require
from pyfront.cli import Commands, whole_number
from pyfront.datasets import KINDS, TwoItems, choose_kind, multi_digits, multi_mnist
from pyfront.front import Front, Solution
from pyfront.plots import plot_front, save_figure
from pyfront.preferences import circle, to_reference_vectors
from pyfront.sweep import sweep

__all__ = ["METHODS", "LeNet", "add_command", "run_command"]

_TRAIN, _TEST = 20_000, 5_000  # pictures
_LEARNING_RATE = 1e-2
_EPOCHS = {12: 20, 28: 5}  # by the width of the pictures: about two minutes on two cores
# Large batches: EPO balances the losses of a batch, and their noise is what moves it off the ray.
_BATCH = {12: 1000, 28: 500}
_WARMUP = 100  # steps that Pareto MTL may take to its region


Preference: TypeAlias = tuple[float, ...]
Run: TypeAlias = tuple[str, Preference | None]  # a key of METHODS, and its preference if it has one
Wrap: TypeAlias = Callable[[torch.optim.Optimizer], Any]


@dataclass(frozen=True)
class Method:
    """A method of the demo.

    Args:
        name: in the table.
        takes_preference: whether there is a run for every preference, or one in all.
        wrap: makes the method from a base optimizer, a preference, and all K preferences.
    """

    name: str
    takes_preference: bool
    wrap: Callable[[torch.optim.Optimizer, Preference, Sequence[Preference]], Any]


def _pareto_mtl(
    base: torch.optim.Optimizer, r: Preference, preferences: Sequence[Preference]
) -> pyfront.ParetoMTL:
    """The region around the ray of `r` among those of all preferences.

    Constraints act from half-way between the ray and the edge of the region on: (u_j − u_k)ᵀ u_k is
    −(1 − u_jᵀu_k) on the ray and 0 at the edge, and the losses of batches scatter.
    """
    vectors = to_reference_vectors(torch.tensor(preferences, dtype=torch.float64))
    index = preferences.index(r)
    cosines = (vectors @ vectors[index]).tolist()
    nearest = max((c for j, c in enumerate(cosines) if j != index), default=1.0)
    margin = 0.5 * (1.0 - nearest)
    return pyfront.ParetoMTL(base, vectors, index, warmup_steps=_WARMUP, epsilon=margin)


#: What `--method` takes; the first three by default. The weights of those sum to 1, so one learning
#: rate suits them; Adam takes out the scale of Pareto MTL's.
METHODS = {
    "epo": Method("EPO", True, lambda base, r, _: pyfront.EPO(base, r, weight_smoothing=0.9)),
    "linear": Method("linear", True, lambda base, r, _: pyfront.LinearScalarization(base, r)),
    "mgda": Method("MGDA", False, lambda base, *_: pyfront.MGDA(base)),
    "pareto-mtl": Method("ParetoMTL", True, _pareto_mtl),
}
_DEFAULT = ("epo", "linear", "mgda")


class LeNet(nn.Module):
    """LeNet with one head a task: no dropout and no batch statistics, so training and test agree.

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
        """Logits of both tasks, each [N, 10], for images [N, 1, size, size]."""
        features = self.trunk(images)
        return [head(features) for head in self.heads]


def _task_losses(logits: Sequence[Tensor], labels: Tensor) -> list[Tensor]:
    return [cross_entropy(z, labels[:, task]) for task, z in enumerate(logits)]


def _train(
    wrap: Wrap, data: TwoItems, epochs: int, seed: int, advance: Callable[[], None]
) -> LeNet:
    """Adam with cosine decay to 0; the same start and the same batches for every run."""
    torch.manual_seed(seed)
    size = data.train_images.shape[-1]
    model = LeNet(size)
    base = torch.optim.Adam(model.parameters(), lr=_LEARNING_RATE)
    opt = wrap(base)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(base, epochs * _TRAIN // _BATCH[size])
    for _ in range(epochs):
        for batch in torch.split(torch.randperm(_TRAIN), _BATCH[size]):
            logits = model(data.train_images[batch])
            opt.step(_task_losses(logits, data.train_labels[batch]))
            schedule.step()
            advance()
    return model


@torch.no_grad()
def _evaluate(model: LeNet, images: Tensor, labels: Tensor) -> tuple[list[float], list[float]]:
    """Losses and accuracies of both tasks on a whole set."""
    logits = [
        torch.cat(parts) for parts in zip(*map(model, torch.split(images, 1000)), strict=True)
    ]
    hits = [(z.argmax(1) == labels[:, task]).double().mean() for task, z in enumerate(logits)]
    return [loss.item() for loss in _task_losses(logits, labels)], [hit.item() for hit in hits]


def _solve(
    run: Run,
    advance: Callable[[], None],
    *,
    preferences: Sequence[Preference],
    data: TwoItems,
    epochs: int,
    seed: int,
) -> Solution:
    """Train one model and measure it on the whole training and test sets."""
    method, r = METHODS[run[0]], run[1]
    begin = time.perf_counter()

    def wrap(base: torch.optim.Optimizer) -> Any:
        return method.wrap(base, r or (), preferences)

    model = _train(wrap, data, epochs, seed, advance)
    seconds = time.perf_counter() - begin
    train, _ = _evaluate(model, data.train_images, data.train_labels)
    test, accuracies = _evaluate(model, data.test_images, data.test_labels)
    metrics = {"seconds": seconds, "accuracy_1": accuracies[0], "accuracy_2": accuracies[1]}
    if r is not None:
        metrics |= {
            "train_non_uniformity": pyfront.functional.non_uniformity(train, r),
            "test_non_uniformity": pyfront.functional.non_uniformity(test, r),
            "worst_relative_loss": max(r[0] * test[0], r[1] * test[1]),
        }
    return Solution(
        method=method.name,
        preference=r,
        train_losses=train,
        test_losses=test,
        metrics=metrics,
    )


def _rays(count: int) -> list[Preference]:
    """K preferences whose rays l ∝ 1/r are evenly spread."""
    inverse = 1.0 / circle(count + 2)[1:-1]
    return [tuple(r) for r in (inverse / inverse.sum(dim=1, keepdim=True)).tolist()]


def _plan(methods: Iterable[str], preferences: Sequence[Preference]) -> list[Run]:
    """Every method at every preference; once if it takes none."""
    runs: list[Run] = []
    for name in (name for name in METHODS if name in methods):
        takes_one = METHODS[name].takes_preference
        runs += [(name, r) for r in preferences] if takes_one else [(name, None)]
    return runs


def _solution_rows(front: Front) -> Iterator[str]:
    """One line a solution, those of one preference together; `worst` is max_j r_j l_j (test)."""
    yield f"{'':26} training loss      test loss    accuracy %  non-uniformity   worst"
    yield (
        f"{'preference r':14} {'method':9}"
        + 2 * "   task 1 task 2"
        + ("   task1 task2  training   test    r·l")
    )
    for s in sorted(front, key=lambda s: tuple(s.preference or (1.0,))):
        r = "any" if s.preference is None else "({:.3f}, {:.3f})".format(*s.preference)
        line, m = f"{r:14} {s.method:9}", s.metrics
        for losses in (s.train_losses, s.test_losses or ()):
            line += f"   {losses[0]:6.4f} {losses[1]:6.4f}"
        line += f"   {100 * m['accuracy_1']:5.1f} {100 * m['accuracy_2']:5.1f}"
        if s.preference is not None:
            line += f"    {m['train_non_uniformity']:6.4f} {m['test_non_uniformity']:6.4f}"
            line += f" {m['worst_relative_loss']:6.4f}"
        yield line


def _method_rows(front: Front) -> Iterator[str]:
    """One line a method: hypervolume on the test set, and the seconds of training."""
    reference = 1.1 * front.losses("test").max(axis=0)
    corner = f"({reference[0]:.4f}, {reference[1]:.4f})"
    yield f"{'method':9} solutions  hypervolume  seconds   (test losses, reference {corner})"
    for method in dict.fromkeys(s.method for s in front):
        part = Front(s for s in front if s.method == method)
        seconds = sum(s.metrics["seconds"] for s in part)
        volume = part.hypervolume(reference, "test")
        yield f"{method:9} {len(part):9}  {volume:11.4f}  {seconds:7.1f}"


def _methods(text: str) -> list[str]:
    names = text.lower().split(",")
    for name in names:
        if name not in METHODS:
            raise argparse.ArgumentTypeError(f"{name!r}: expected one of {', '.join(METHODS)}")
    return names


def add_command(commands: Commands) -> None:
    """Adds `demo` to the command line."""
    demo = commands.add_parser("demo", help=__doc__, description=__doc__)
    demo.set_defaults(run=run_command, error=demo.error)
    add = demo.add_argument
    choices, default = ", ".join(METHODS), ", ".join(_DEFAULT)
    add(
        "--method",
        type=_methods,
        action="extend",
        metavar="NAME[,NAME]",
        help=f"of {choices}; default {default}",
    )
    add("--preferences", type=whole_number(1, 100), default=5, metavar="K", help="rays (default 5)")
    add(
        *("--epochs",),
        type=whole_number(1, 10_000),
        metavar="N",
        help=f"default {_EPOCHS[12]}, with --data {_EPOCHS[28]}; the same for every method",
    )
    add("--seed", type=whole_number(0, 2**32 - 1), default=0, metavar="N", help="default 0")
    add(
        *("--workers",),
        type=whole_number(0, 1000),
        metavar="N",
        help="processes of one thread each, by default one a core; 0: in this one. The results "
        "are the same",
    )
    add("--out", type=Path, default=Path("pyfront-demo"), metavar="DIR", help="default %(default)s")
    add(
        *("--data",),
        type=Path,
        metavar="DIR",
        help="idx files of MNIST or Fashion-MNIST, or folders mnist, fashion-mnist of them, "
        "in place of the bundled digits",
    )
    add(
        *("--dataset",),
        choices=list(KINDS),
        help="made from --data; by default multi-mnist if there is a folder mnist, otherwise "
        "multi-fashion; a folder of idx files is MNIST unless its name says fashion",
    )


def _load(args: argparse.Namespace) -> TwoItems:
    if args.data is None:
        return multi_digits(train=_TRAIN, test=_TEST, seed=args.seed)
    kind = args.dataset or choose_kind(args.data)
    return multi_mnist(args.data, kind=kind, train=_TRAIN, test=_TEST, seed=args.seed)


def _demo(args: argparse.Namespace, data: TwoItems) -> None:
    preferences = _rays(args.preferences)
    runs = _plan(args.method or _DEFAULT, preferences)
    size = data.train_images.shape[-1]
    epochs = args.epochs or _EPOCHS[size]
    steps = epochs * _TRAIN // _BATCH[size]
    count = "1 run" if len(runs) == 1 else f"{len(runs)} runs"
    print(f"{data.name}: {count} of {steps} steps each, seed {args.seed}", flush=True)
    train = functools.partial(
        _solve, preferences=preferences, data=data, epochs=epochs, seed=args.seed
    )
    front = sweep(train, runs, workers=args.workers, steps=steps, progress=True)
    print(*_solution_rows(front), "", *_method_rows(front), sep="\n")
    print(
        "\nnon-uniformity: 0 on the ray of the preference. worst r·l: largest r_j l_j (test), less"
        "\nis better. hypervolume: the area that the method's points dominate, more is better."
    )
    front.save(args.out / "front.json")
    save_figure(plot_front(front, title=f"{data.name}, {steps} steps"), args.out / "front.png")
    print(f"\nfront.png and front.json are in {args.out.resolve()}")


def run_command(args: argparse.Namespace) -> None:
    """Trains, prints the table and writes the picture and the front."""
    if args.dataset and not args.data:
        args.error("--dataset needs --data")
    try:
        for module in ("matplotlib", "moocore", "tqdm"):  # before the training, not after it
            require(module, "demo")
        data = _load(args)
    except (ImportError, OSError, ValueError) as error:
        args.error(str(error))
    try:
        args.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        args.error(f"--out {args.out}: cannot be made ({error.strerror})")
    _demo(args, data)
