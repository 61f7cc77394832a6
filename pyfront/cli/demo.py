"""`python -m pyfront demo`: EPO, linear scalarization and MGDA on pictures of two items."""

import argparse
import functools
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

from pyfront._utils.extras import import_extra
from pyfront._utils.files import new_folder
from pyfront.cli.demo_training import (
    EPOCHS,
    METHODS,
    TEST,
    TRAIN,
    DemoRun,
    along_the_front,
    plan,
    rays_between,
    solve,
    steps_of,
)
from pyfront.cli.main import Commands, whole_number
from pyfront.datasets import KINDS, TwoItems, choose_kind, multi_digits, multi_mnist
from pyfront.front.front import Front
from pyfront.plots import plot_front, save_figure
from pyfront.sweeps import sweep

__all__ = ["add_command", "run_command"]

_DEFAULT = ("epo", "linear", "mgda")


def _solution_rows(front: Front) -> Iterator[str]:
    """Yield one line per solution, sorted by preference; `worst` is max_j r_j l_j (test)."""
    width = _method_width(front)
    yield f"{'':{width + 17}} training loss      test loss    accuracy %  non-uniformity   worst"
    yield (
        f"{'preference r':14} {'method':{width}}"
        + 2 * "   task 1 task 2"
        + ("   task1 task2  training   test    r·l")
    )
    for s in sorted(front, key=lambda s: tuple(s.preference or (1.0,))):
        r = "any" if s.preference is None else "({:.3f}, {:.3f})".format(*s.preference)
        line, m = f"{r:14} {s.method:{width}}", s.metrics
        for losses in (s.train_losses, s.test_losses or ()):
            line += f"   {losses[0]:6.4f} {losses[1]:6.4f}"
        line += f"   {100 * m['accuracy_1']:5.1f} {100 * m['accuracy_2']:5.1f}"
        if s.preference is not None:
            line += f"    {m['train_non_uniformity']:6.4f} {m['test_non_uniformity']:6.4f}"
            line += f" {m['worst_relative_loss']:6.4f}"
        yield line


def _method_rows(front: Front) -> Iterator[str]:
    """Yield one line per method: hypervolume on the test set, and the seconds of training."""
    reference = 1.1 * front.losses("test").max(axis=0)
    corner = f"({reference[0]:.4f}, {reference[1]:.4f})"
    width = _method_width(front)
    yield f"{'method':{width}} solutions  hypervolume  seconds   (test losses, reference {corner})"
    for method in dict.fromkeys(s.method for s in front):
        part = Front(s for s in front if s.method == method)
        seconds = sum(s.metrics["seconds"] for s in part)
        volume = part.hypervolume(reference, "test")
        yield f"{method:{width}} {len(part):9}  {volume:11.4f}  {seconds:7.1f}"


def _method_width(front: Front) -> int:
    return max(9, *(len(s.method) for s in front))


def _methods(text: str) -> list[str]:
    names = text.lower().split(",")
    for name in names:
        if name not in METHODS:
            raise argparse.ArgumentTypeError(f"{name!r}: expected one of {', '.join(METHODS)}")
    return names


def add_command(commands: Commands) -> None:
    """Add `demo` to the command line."""
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
        help=f"default {EPOCHS[12]}, with --data {EPOCHS[28]}; the same for every method",
    )
    add("--seed", type=whole_number(0, 2**32 - 1), default=0, metavar="N", help="default 0")
    add(
        *("--workers",),
        type=whole_number(0, 1000),
        metavar="N",
        help="processes of one thread each, by default one per core; 0: train in this process, "
        "with the same results",
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
        return multi_digits(train=TRAIN, test=TEST, seed=args.seed)
    kind = args.dataset or choose_kind(args.data)
    return multi_mnist(args.data, kind=kind, train=TRAIN, test=TEST, seed=args.seed)


def _lengths(runs: Sequence[DemoRun], steps: int, preferences: int) -> str:
    """Write how many runs of how many steps there are."""
    networks = sum(METHODS[method].controllable for method, _ in runs)
    others = len(runs) - networks
    parts = [f"one network of {preferences * steps} steps"] if networks else []
    if others:
        parts.insert(0, f"{others} run{'s' if others > 1 else ''} of {steps} steps each")
    return ", ".join(parts)


def _demo(args: argparse.Namespace, data: TwoItems) -> None:
    preferences = rays_between(args.preferences)
    runs = plan(args.method or _DEFAULT, preferences)
    epochs = args.epochs or EPOCHS[data.train_images.shape[-1]]
    steps = steps_of(data, epochs)
    lengths = _lengths(runs, steps, args.preferences)
    print(f"{data.name}: {lengths}, seed {args.seed}", flush=True)
    checkpoint = args.out / "controllable.pt"
    train = functools.partial(
        solve,
        preferences=preferences,
        data=data,
        epochs=epochs,
        seed=args.seed,
        checkpoint=checkpoint,
    )
    front = sweep(train, runs, workers=args.workers, steps=steps, progress=True)
    files, title = "front.png and front.json", f"{data.name}, {steps} steps"
    if METHODS[runs[0][0]].controllable:
        seconds = front[0].metrics["seconds"]
        front = Front([*front[1:], *along_the_front(data, checkpoint, seconds, args.workers)])
        files, title = f"front.png, front.json and {checkpoint.name}", f"{data.name}: {lengths}"
    print(*_solution_rows(front), "", *_method_rows(front), sep="\n")
    print(
        "\nnon-uniformity: 0 on the ray of the preference. worst r·l: largest r_j l_j (test), less"
        "\nis better. hypervolume: the area that the method's points dominate, more is better."
    )
    front.save(args.out / "front.json")
    save_figure(plot_front(front, title=title), args.out / "front.png")
    print(f"\n{files} are in {args.out.resolve()}")


def run_command(args: argparse.Namespace) -> None:
    """Train, print the table and write the plot and the front."""
    if args.dataset and not args.data:
        args.error("--dataset needs --data")
    try:
        for module in ("matplotlib", "moocore", "tqdm"):  # before the training, not after it
            import_extra(module, "demo")
        data = _load(args)
    except (ImportError, OSError, ValueError) as error:
        args.error(str(error))
    with ExitStack() as stack:
        try:
            stack.enter_context(new_folder(args.out))
        except OSError as error:
            args.error(f"--out {args.out}: cannot be made ({error.strerror})")
        _demo(args, data)
