"""The preference of a method, the names of its tasks, and their number."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, TypeAlias

import torch
from torch import Tensor

from pyfront._utils.arguments import FloatArray, VectorsLike
from pyfront._utils.loss_space import as_preference
from pyfront._utils.read_only import read_only
from pyfront._utils.task_names import check_tasks
from pyfront.optimizer.common_options import TakesCommonOptions
from pyfront.optimizer.names import NamedVector, by_position, errors_by_name
from pyfront.report import Report

__all__ = ["Domain", "HasPreference"]

Domain: TypeAlias = Literal["none", "optional", "nonnegative", "positive"]


class HasPreference(TakesCommonOptions):
    """An optimizer of tasks that may have names, with a preference among them or without one.

    Example:
        >>> import pyfront
        >>> x = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
        >>> isinstance(pyfront.MGDA(torch.optim.SGD([x], lr=0.1)), HasPreference)
        True
    """

    preference_domain: ClassVar[Domain] = "none"

    @property
    def preference(self) -> Tensor | None:
        """r, [m] float64 as it was given, or None; read-only, and settable between steps.

        Example:
            >>> import pyfront
            >>> x = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
            >>> opt = pyfront.LinearScalarization(torch.optim.SGD([x], lr=0.1), [0.75, 0.25])
            >>> opt.preference = [0.5, 0.5]
            >>> opt.preference.tolist()
            [0.5, 0.5]
        """
        r = self.memory.get("preference")
        if r is None:
            return None
        advice = "preference: cannot be changed entry by entry; assign opt.preference = [...]"
        return read_only(torch.tensor(r, dtype=torch.float64, device="cpu"), advice)

    @preference.setter
    def preference(self, value: NamedVector) -> None:
        current = self.preference
        values, tasks = self._by_position(value)
        with errors_by_name(tasks):
            r = self.checked_preference(values, None if current is None else current.numel())
        self.memory.update(preference=r.tolist(), age=0)  # decide anew at the next step
        if tasks is not None:
            self.memory.update(tasks=list(tasks))

    @property
    def tasks(self) -> tuple[str, ...] | None:
        """The names of the tasks in their order, as the preference or the first step gave them.

        Example:
            >>> import pyfront
            >>> x = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
            >>> base = torch.optim.SGD([x], lr=0.1)
            >>> pyfront.LinearScalarization(base, {"segmentation": 0.7, "depth": 0.3}).tasks
            ('segmentation', 'depth')
        """
        tasks = self.memory.get("tasks")
        return None if tasks is None else tuple(tasks)

    def _known_tasks(self) -> tuple[str, ...] | None:
        """Return the names of the tasks; before the first step those of its micro-batches."""
        collected = self._shared.collected
        return self.tasks or (None if collected is None else collected.tasks)

    def _by_position(self, preference: Any) -> tuple[Any, tuple[str, ...] | None]:
        """Return a preference in the order of the tasks, and their names where it has them."""
        if not isinstance(preference, Mapping):
            return preference, None
        tasks = self._known_tasks() or check_tasks(tuple(preference))
        return by_position("preference", preference, tasks), tasks

    @property
    def num_tasks(self) -> int | None:
        """m, as the preference or the last report has it; None where nothing tells.

        Example:
            >>> import pyfront
            >>> x = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
            >>> opt = pyfront.LinearScalarization(torch.optim.SGD([x], lr=0.1), [0.75, 0.25])
            >>> opt.num_tasks
            2
        """
        if (r := self.memory.get("preference")) is not None:
            return len(r)
        return None if self.report is None else self.report.weights.numel()

    def checked_preference(self, value: VectorsLike, length: int | None = None) -> FloatArray:
        """Return ``value`` as r, [m], if it is in the method's domain.

        Args:
            value: r, [m], by position.
            length: m, where it is known.

        Example:
            >>> import pyfront
            >>> x = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
            >>> opt = pyfront.LinearScalarization(torch.optim.SGD([x], lr=0.1), [0.75, 0.25])
            >>> opt.checked_preference([0.7, -0.3])
            Traceback (most recent call last):
                ...
            ValueError: preference[1] = -0.3: must be finite and ≥ 0
        """
        if self.preference_domain == "none":
            raise TypeError(f"preference: {type(self).__name__} takes none")
        positive = self.preference_domain != "nonnegative"
        return as_preference(value, positive=positive, length=length).copy()

    @property
    def report(self) -> Report | None:
        """The report of the last call of ``backward``, or None.

        Example:
            >>> import pyfront
            >>> x = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
            >>> opt = pyfront.LinearScalarization(torch.optim.SGD([x], lr=0.1), [0.75, 0.25])
            >>> opt.report is None
            True
            >>> opt.step([x[0] ** 2, x[1] ** 2]) is opt.report
            True
        """
        report: Report | None = self._shared.report
        return report

    @report.setter
    def report(self, value: Report | None) -> None:
        self._shared.report = value
