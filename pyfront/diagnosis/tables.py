"""A diagnosis as tables of text and HTML."""

from __future__ import annotations

import math
from collections.abc import Iterator
from html import escape
from itertools import combinations
from textwrap import wrap
from typing import TYPE_CHECKING, TypeAlias

from pyfront._utils.tables import aligned, bytes_in_words, html_table, task_labels

if TYPE_CHECKING:
    from pyfront.diagnosis.diagnosis import Diagnosis

__all__ = ["as_html", "as_text"]

Table: TypeAlias = "tuple[str, list[list[str]], tuple[int, ...]]"  # caption, rows, columns of text

MOST_PAIRS, MOST_TASKS = 6, 20  # that are shown
WIDTH_OF_METHODS = 54
PASSES = {
    "losses": "1 backward pass",
    "products": "1, and a product C w",
}


def as_text(d: Diagnosis) -> str:
    """Write the tables, notes and the verdict, in lines of about 100 columns."""
    parts = []
    for caption, rows, texts in _tables(d):
        lines = aligned(rows, texts=texts)
        parts.append("\n".join([caption, *(f"  {line}" for line in lines)]))
    parts += ["\n".join(wrap(note, 98, subsequent_indent="  ")) for note in _notes(d)]
    return "\n\n".join(parts)


def as_html(d: Diagnosis) -> str:
    """Write the same for a notebook; all text is escaped."""
    shown = [html_table(caption, rows) for caption, rows, _ in _tables(d)]
    return "".join(shown + [f"<p>{escape(note)}</p>" for note in _notes(d)])


def _tables(d: Diagnosis) -> Iterator[Table]:
    names = task_labels(d.tasks, len(d.losses))
    count = f"{len(names)} task" + "s" * (len(names) != 1)
    batches = f"{d.batches} batch" + "es" * (d.batches != 1)
    yield f"Diagnosis: {count}, {batches}", _task_rows(d, names), (0,)
    if len(names) > 1 and d.shared:
        yield _pair_table(d, names)
    yield "Cost of a step, beside .grad", _cost_rows(d), (0, 2)


def _cost_rows(d: Diagnosis) -> list[list[str]]:
    rows = [["takes", "gradients held", "methods"]]
    for cost in d.costs:
        start = [PASSES.get(cost.needs) or f"{cost.passes} backward passes"]
        start.append(bytes_in_words(cost.gradient_bytes))
        for line, names in enumerate(wrap(", ".join(cost.methods), WIDTH_OF_METHODS)):
            rows.append([*(["", ""] if line else start), names])
    return rows


def _task_rows(d: Diagnosis, names: list[str]) -> list[list[str]]:
    titles = ["task", "loss", "‖gradient‖", "signal", "rises along the sum", "own parameters"]
    rows = [titles]
    for j, name in enumerate(names[:MOST_TASKS]):
        numbers = [f"{d.losses[j]:.4g}", f"{d.norms[j]:.3g}"]
        shares = [_share(float(d.signal[j])), _share(float(d.rises[j]))]
        rows.append([name, *numbers, *shares, str(len(d.task_specific[j]))])
    if len(names) > MOST_TASKS:
        rows.append(["…", *[""] * (len(titles) - 1)])
    return rows


def _pair_table(d: Diagnosis, names: list[str]) -> Table:
    pairs = sorted(
        combinations(range(len(names)), 2),
        key=lambda place: (math.isnan(d.cosines[place]), float(d.cosines[place])),
    )
    rows = [["tasks", "in a batch", "± s.e.", "expected", "± s.e."]]
    for i, j in pairs[:MOST_PAIRS]:
        values = (d.cosines, d.cosine_errors, d.expected_cosines, d.expected_cosine_errors)
        batch, error, expected, its_error = (float(value[i, j]) for value in values)
        rows.append(
            [
                f"{names[i]}, {names[j]}",
                "not together" if math.isnan(batch) else f"{batch:+.3f}",
                _unless_unknown(f"{error:.3f}"),
                _unless_unknown(f"{expected:+.3f}"),
                _unless_unknown(f"{its_error:.3f}"),
            ]
        )
    lowest = f", the lowest {MOST_PAIRS} of {len(pairs)}" if len(pairs) > MOST_PAIRS else ""
    return f"Cosines of gradients{lowest}", rows, (0,)


def _unless_unknown(text: str) -> str:
    return "unknown" if "nan" in text else text


def _notes(d: Diagnosis) -> Iterator[str]:
    names = task_labels(d.tasks, len(d.losses))
    specific = sum(map(len, d.task_specific))
    yield (
        f"Parameters: {len(d.shared)} shared, {specific} of one task, {len(d.unreached)} that no "
        f"loss reaches. Lengths of gradients: ratio {d.norm_ratio:.3g}. Condition number of C: "
        f"{d.condition:.3g}."
    )
    if d.at_floor:
        yield (
            f"Floors: {', '.join(names[j] for j in d.at_floor)}: no gradient is seen beyond noise; "
            "the loss may be at its floor. A preference compares l − offset: give offset= then."
        )
    if d.negative:
        yield (
            f"Negative: {', '.join(names[j] for j in d.negative)}. EPO and PreferenceFeedback "
            "compare ratios: give offset= and unit=."
        )
    if len(names) > 1 and d.shared:
        yield (
            "Cosines tell of tasks on common samples: below about a third of samples in common "
            "they are noise. They are those of this model now, and change as it trains."
        )
    yield f"Verdict: {d.verdict}"


def _share(value: float) -> str:
    return "unknown" if math.isnan(value) else f"{value:.0%}"
