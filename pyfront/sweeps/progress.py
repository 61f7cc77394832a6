"""The progress bar of a sweep."""

from __future__ import annotations

from typing import Any

from pyfront._utils.extras import import_extra

__all__ = ["ProgressBar"]


class ProgressBar:
    """The progress of all runs, in steps where their number is known.

    Args:
        runs: their number.
        steps: the steps of each run, or None.
        wanted: True, False, or None for a bar where tqdm is installed.

    Raises:
        ImportError: `wanted` is True and tqdm is not installed.
    """

    def __init__(self, runs: int, steps: int | None, wanted: bool | None) -> None:
        """See the class."""
        self._steps = steps or 1
        self._done: dict[int, int] = {}
        self._bar: Any = None
        if wanted is False:
            return
        try:
            tqdm = import_extra("tqdm", "sweep").tqdm
        except ImportError:
            if wanted:
                raise
            return
        unit = "step" if steps else "run"
        self._bar = tqdm(total=runs * self._steps, unit=unit, leave=False, dynamic_ncols=True)

    def close(self) -> None:
        """Remove the bar."""
        if self._bar is not None:
            self._bar.close()

    def move(self, index: int, steps: int | None) -> None:
        """Move by the steps that a run reports; None: it has ended, so move by the rest."""
        done = self._done.get(index, 0)
        left = self._steps - done
        count = left if steps is None else min(steps, left)
        self._done[index] = done + count
        if self._bar is not None and count:
            self._bar.update(count)
