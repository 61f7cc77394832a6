"""A report whose numbers are still on a CUDA device."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from pyfront.backend.cuda import PHASES, STATUSES
from pyfront.report import Report

__all__ = ["NONFINITE", "OK", "DeviceReport"]

OK, NONFINITE = (STATUSES.index(status) for status in ("ok", "nonfinite"))


class DeviceReport(Report):
    """Hold a decision made on a CUDA device; reading a number waits for it.

    Args:
        weights: w, [m] float64, on the device or, where a method knows them, on the CPU.
        losses: l, [m] float64, on the device.
        gramian: C, [m, m] float64, on the device, or None.
        outcome: status, gap and perhaps phase, on the device; None where nothing was solved.
    """

    __slots__ = ("_outcome",)
    _outcome: Tensor | list[float] | None

    def __init__(
        self,
        weights: Tensor,
        losses: Tensor,
        gramian: Tensor | None,
        outcome: Tensor | list[float] | None,
    ) -> None:
        values = {"weights": weights, "losses": losses, "gramian": gramian}
        absent = {"non_uniformity": None, "reachable_preference": None, "tasks": None}
        for name, value in (values | absent | {"_outcome": outcome}).items():
            object.__setattr__(self, name, value)

    def unless_nan(self, number: Tensor) -> DeviceReport:
        """Return this report, with the status ``"nonfinite"`` if ``number``, there too, is NaN."""
        outcome = self._outcome
        assert isinstance(outcome, Tensor) and self.losses is not None
        status = torch.where(number.isnan(), NONFINITE, outcome[:1]).to(outcome)
        return DeviceReport(
            self.weights, self.losses, self.gramian, torch.cat([status, outcome[1:]])
        )

    def for_all(self, places: Sequence[int], tasks: int) -> Report:
        """Return the report of all tasks, on the device as well."""
        if len(places) == tasks:
            return self
        found = self._for_all(places, tasks)
        return DeviceReport(**{"losses": None, "gramian": None, **found}, outcome=self._outcome)

    def _number(self, place: int) -> float | None:
        outcome = self._outcome
        if isinstance(outcome, Tensor):
            outcome = outcome.tolist()
            object.__setattr__(self, "_outcome", outcome)
        return None if outcome is None or place >= len(outcome) else outcome[place]

    @property
    def status(self) -> str:
        """The outcome."""
        number = self._number(0)
        return "ok" if number is None else STATUSES[int(number)]

    @property
    def gap(self) -> float | None:
        """Certificate of the min-norm solver."""
        return self._number(1)

    @property
    def phase(self) -> str | None:
        """What the step was after."""
        number = self._number(2)
        return None if number is None else PHASES[int(number)]

    def __reduce__(self) -> tuple[type[Report], tuple[object, ...]]:
        return Report, tuple(getattr(self, name) for name in Report.__dataclass_fields__)
