"""What the demo prints of a front: a table of solutions, what was seen, and more if asked for."""

from __future__ import annotations

from collections.abc import Iterator

from pyfront.front.front import Front
from pyfront.front.solution import SPLIT_WORDS, Solution

__all__ = ["further_rows", "seen", "solution_rows"]


def solution_rows(front: Front) -> Iterator[str]:
    """Yield one line per solution, sorted by preference."""
    width = _method_width(front)
    yield f"{'':{width + 17}}  training loss    non-      worst r·l        backward"
    yield (
        f"{'preference r':14} {'method':{width}}"
        "   task 1 task 2  uniformity  training   test    passes  seconds"
    )
    for start, s in _by_preference(front, width):
        m = s.metrics
        line = f"{start}   {s.train_losses[0]:6.4f} {s.train_losses[1]:6.4f}"
        if s.preference is None:
            line += 30 * " "
        else:
            line += f"  {m['train_non_uniformity']:10.5f}"
            line += f"  {m['train_worst_relative_loss']:8.4f} {m['test_worst_relative_loss']:6.4f}"
            line += 2 * " "
        yield line + f"  {m['backward_passes']:6.0f}  {m['seconds']:7.1f}"


def seen(front: Front) -> str:
    """Say in a sentence which method held the proportions, and what that cost."""
    asked = Front(s for s in front if s.preference is not None)
    methods = list(dict.fromkeys(s.method for s in asked))
    if not methods:
        return "No method here follows a preference."
    apart = {name: _mean(asked, name, "train_non_uniformity") for name in methods}
    first, *others = sorted(methods, key=lambda name: apart[name])
    text = f"Nearest to the rays: {first}, mean non-uniformity {apart[first]:.5f}"
    if others:
        text += f" ({', '.join(f'{name} {apart[name]:.5f}' for name in others)})"
    if "linear" in others:
        part = Front(s for s in asked if s.method in (first, "linear"))
        train, test = (part.compare("linear", split=split) for split in SPLIT_WORDS)
        text += (
            f".\nIts worst r·l is below linear's at {train.below} of {len(train)} preferences in "
            f"training, at {test.below} in test"
        )
    return text + "."


def further_rows(front: Front) -> Iterator[str]:
    """Yield test losses and accuracies per solution, then hypervolumes per method."""
    width = _method_width(front)
    yield f"{'preference r':14} {'method':{width}}   test loss 1, 2    accuracy % 1, 2"
    for start, s in _by_preference(front, width):
        test, m = s.test_losses or (), s.metrics
        yield (
            f"{start}   {test[0]:6.4f} {test[1]:6.4f}   "
            f"{100 * m['accuracy_1']:5.1f} {100 * m['accuracy_2']:5.1f}"
        )
    reference = 1.1 * front.losses("test").max(axis=0)
    corner = f"({reference[0]:.4f}, {reference[1]:.4f})"
    yield ""
    yield f"{'method':{width}} solutions  hypervolume   (test losses, reference {corner})"
    for method in dict.fromkeys(s.method for s in front):
        part = Front(s for s in front if s.method == method)
        yield f"{method:{width}} {len(part):9}  {part.hypervolume(reference, 'test'):11.4f}"
    yield (
        "hypervolume: the area that the points dominate. It rewards low losses anywhere, and so"
        "\nleaving an uneven ray for cheaper points; it says nothing of the proportion asked for."
    )


def _by_preference(front: Front, width: int) -> Iterator[tuple[str, Solution]]:
    """Yield the solutions sorted by preference, each after the first two columns of its line."""
    for s in sorted(front, key=lambda s: tuple(s.preference or (1.0,))):
        r = "any" if s.preference is None else "({:.3f}, {:.3f})".format(*s.preference)
        yield f"{r:14} {s.method:{width}}", s


def _mean(front: Front, method: str, metric: str) -> float:
    values = [s.metrics[metric] for s in front if s.method == method]
    return sum(values) / len(values)


def _method_width(front: Front) -> int:
    return max(9, *(len(s.method) for s in front))
