"""`python -m pyfront show` and `plot`: tables and plots of saved fronts."""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

from pyfront._utils.tables import aligned, printable
from pyfront.cli.main import Commands
from pyfront.front.front import Front
from pyfront.front.measures import MOST_TASKS, non_dominated
from pyfront.front.solution import SPLIT_WORDS, DataSplit
from pyfront.front.tables import count_of, share_of
from pyfront.plots import plot_front, plot_relative_losses, save_figure, save_page
from pyfront.plots.pareto import SUFFIXES

__all__ = ["add_command", "report_lines"]

_MOST_TASKS = 8  # on a line


def add_command(commands: Commands) -> None:
    """Add `show` and `plot` to the command line."""
    text = "the solutions of saved fronts, and what each method reached"
    show = commands.add_parser("show", help=text, description=f"Prints {text}.")
    show.set_defaults(run=_show, error=show.error)
    show.add_argument(
        "--reference",
        type=_point,
        metavar="L1,L2,…",
        help="reference point of the hypervolume; default a tenth beyond the worst losses",
    )
    show.add_argument(
        *("--metric",),
        action="append",
        default=[],
        metavar="NAME",
        help="a metric to print beside the losses; may be given several times",
    )
    text = "a plot or an interactive page of saved fronts"
    plot = commands.add_parser("plot", help=text, description=f"Writes {text}.")
    plot.set_defaults(run=_plot, error=plot.error)
    plot.add_argument(
        *("--out",),
        type=Path,
        required=True,
        metavar="FILE",
        help=f"what to write; ends in {', '.join(SUFFIXES)} or .html",
    )
    plot.add_argument(
        "--relative", action="store_true", help="draw the relative losses r∘l of the tasks"
    )
    for parser in (show, plot):
        text = "a front that was saved as JSON; several are merged, equal solutions kept once"
        parser.add_argument("files", nargs="+", type=Path, metavar="front.json", help=text)
        parser.add_argument(
            "--split",
            choices=("train", "test"),
            help="whose losses count; default test where every solution has test losses",
        )


def report_lines(
    front: Front,
    *,
    split: DataSplit | None = None,
    reference: Sequence[float] | None = None,
    metrics: Sequence[str] = (),
) -> list[str]:
    """Return the lines that `python -m pyfront show` prints.

    Args:
        front: at least one solution.
        split: "train" or "test"; ``front.common_split`` by default.
        reference: the reference point of the hypervolume; ``front.reference_point(split)`` by
            default.
        metrics: names of metrics that every solution has, one column each.

    Raises:
        ValueError: an empty front, a metric that a solution does not have, a reference that a loss
            exceeds, or a solution without losses on the split.
        ImportError: moocore is not installed.

    Example:
        >>> from pyfront import Solution
        >>> front = Front([Solution(method="EPO", train_losses=[0.5, 0.25])])
        >>> report_lines(front)[0]
        '1 solution, 1 not dominated (training losses)'
    """
    if len(front) == 0:
        raise ValueError("front: holds no solution")
    split = front.common_split if split is None else split
    corner = front.reference_point(split).tolist() if reference is None else list(reference)
    solutions = aligned(_solution_cells(front, split, metrics), texts=(1, 2))
    best = front.choose(split=split)
    index = next(index for index, s in enumerate(front) if s is best)
    chosen = [f"solution {index}", best.method, *filter(None, [best.checkpoint])]
    kept = len(front.non_dominated(split))
    return [
        f"{count_of(len(front))}, {kept} not dominated ({SPLIT_WORDS[split]} losses)",
        *("", *solutions, "", *_methods(front, split, corner), *_beside_linear(front, split)),
        *("", "best compromise (knee): " + ", ".join(map(printable, chosen))),
    ]


def _solution_cells(front: Front, split: DataSplit, metrics: Sequence[str]) -> Iterator[list[str]]:
    """Yield one row per solution: losses, angle to the ray, and whether it is dominated."""
    points = front.losses(split)
    shown = min(points.shape[1], _MOST_TASKS)
    more = ["…"] if shown < points.shape[1] else []
    tasks = [printable(task) for task in front.tasks[:shown]]
    yield ["#", "method", "preference", *tasks, *more, "angle", *metrics, "dominated"]
    columns = [front.metric(name) for name in metrics]
    kept = non_dominated(points)
    for index, (s, angle) in enumerate(zip(front, front.angles(split), strict=True)):
        yield [
            *(str(index), printable(s.method), share_of(s.preference)),
            *(f"{loss:.4g}" for loss in points[index, :shown]),
            *more,
            "" if s.preference is None else f"{angle:.2f}°",
            *(f"{column[index]:.4g}" for column in columns),
            "" if kept[index] else "yes",
        ]


def _methods(front: Front, split: DataSplit, corner: Sequence[float]) -> list[str]:
    """Return the table of the methods and a line on its reference point."""
    if front[0].num_tasks > MOST_TASKS:
        return [f"hypervolume and IGD+ are computed for at most {MOST_TASKS} tasks"]
    corner_text = f"({', '.join(f'{value:.4g}' for value in corner)})"
    return [
        *aligned(_method_cells(front, split, corner), texts=(0,)),
        f"reference point {corner_text}; IGD+ to the solutions that none dominates",
    ]


def _beside_linear(front: Front, split: DataSplit) -> list[str]:
    """Return the comparison with linear weights, where there are any at the same preferences."""
    if not any(s.method == "linear" and s.preference is not None for s in front):
        return []
    found = front.compare("linear", split=split)
    return ["", *repr(found).splitlines()] if found else []


def _method_cells(front: Front, split: DataSplit, corner: Sequence[float]) -> Iterator[list[str]]:
    """Yield one row per method: all at one reference point, against one target."""
    target = front.non_dominated(split)
    yield ["method", "solutions", "hypervolume", "IGD+"]
    for method, part in front.by_method().items():
        volume = part.hypervolume(corner, split)
        distance = part.igd_plus(target, split)
        yield [printable(method), str(len(part)), f"{volume:.6g}", f"{distance:.4g}"]


def _point(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError as error:
        message = f"{text!r}: expected numbers with commas between them"
        raise argparse.ArgumentTypeError(message) from error


def _load(paths: Sequence[Path]) -> Front:
    """Merge the fronts of all files; errors name the file."""
    merged = Front()
    for path in paths:
        front = Front.load(path)
        try:
            merged = Front.merge([merged, front])
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error
    return merged


def _show(args: argparse.Namespace) -> None:
    try:
        front = _load(args.files)
        reference = args.reference
        lines = report_lines(front, split=args.split, reference=reference, metrics=args.metric)
    except (ImportError, OSError, ValueError) as error:
        args.error(printable(str(error)))
    print(*lines, sep="\n")


def _plot(args: argparse.Namespace) -> None:
    suffix = args.out.suffix.lower()
    if suffix not in (*SUFFIXES, ".html"):
        args.error(f"--out {args.out}: expected the ending {', '.join(SUFFIXES)} or .html")
    if args.relative and suffix == ".html":
        args.error("--relative is drawn as a picture, not as .html")
    title = ", ".join(path.name for path in args.files)
    try:
        front = _load(args.files)
        if suffix == ".html":
            save_page(front, args.out, split=args.split, title=title)
        elif args.relative:
            save_figure(plot_relative_losses(front, split=args.split, title=title), args.out)
        else:
            save_figure(plot_front(front, split=args.split, title=title), args.out)
    except (ImportError, OSError, ValueError) as error:
        args.error(printable(str(error)))
    print(f"{args.out} shows {count_of(len(front))}")
