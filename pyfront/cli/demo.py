"""`pyfront demo`: feedback, EPO and linear scalarization on pictures of two items."""

import argparse
import functools
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from pyfront._utils.extras import import_extra
from pyfront._utils.files import new_folder
from pyfront.cli.demo_tables import further_rows, seen, solution_rows
from pyfront.cli.demo_training import (
    EPOCHS,
    METHODS,
    PREFERENCES,
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

_DEFAULT = ("feedback", "epo", "linear")


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
    add(
        *("--preferences",),
        type=whole_number(1, 100),
        metavar="K",
        help="evenly spread rays (default: three, one of them clearly uneven)",
    )
    add("--more", action="store_true", help="print accuracies, test losses and hypervolumes too")
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
    asked = args.preferences
    preferences = list(PREFERENCES) if asked is None else rays_between(asked)
    runs = plan(args.method or _DEFAULT, preferences)
    epochs = args.epochs or EPOCHS[data.train_images.shape[-1]]
    steps = steps_of(data, epochs)
    lengths = _lengths(runs, steps, len(preferences))
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
        cost = {name: front[0].metrics[name] for name in ("backward_passes", "seconds")}
        front = Front([*front[1:], *along_the_front(data, checkpoint, cost, args.workers)])
        files, title = f"front.png, front.json and {checkpoint.name}", f"{data.name}: {lengths}"
    print(*solution_rows(front), "", *(further_rows(front) if args.more else ()), sep="\n")
    print(
        "non-uniformity (training): 0 on the ray of the preference, where r_1 l_1 = r_2 l_2."
        "\nworst r·l: the larger of r_1 l_1 and r_2 l_2, less is better."
    )
    front.save(args.out / "front.json")
    save_figure(plot_front(front, title=title), args.out / "front.png")
    print(f"\n{files} are in {args.out.resolve()}\n\n{seen(front)}")


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
