"""What a step computes with numbers of size m, and where: on the host, or on a CUDA device.

Both give the same step. On a device nothing waits until somebody looks at a number: methods that
decide there (:class:`DecidesOnDevice`) leave every number on it, and for the others losses and
Gramian come to the host in one copy.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np
import torch
from torch import Tensor

from pyfront._utils.arguments import FloatArray
from pyfront.backend import cuda
from pyfront.backend.cuda import Decision
from pyfront.backend.task_gradients import (
    Row,
    TaskGradients,
    all_finite,
    largest_entry,
)
from pyfront.distributed.processes import ALONE, Processes
from pyfront.gradients.losses import loss_values, stacked
from pyfront.optimizer.decision import finite_gramian, nonfinite, weigh
from pyfront.optimizer.device_report import NONFINITE, OK, DeviceReport
from pyfront.report import Report

if TYPE_CHECKING:
    from pyfront.optimizer.step import Step

__all__ = [
    "Arithmetic",
    "DecidesOnDevice",
    "DeviceArithmetic",
    "HostArithmetic",
    "Numbers",
    "Squares",
    "inside_of",
]

Numbers: TypeAlias = "FloatArray | Tensor"  # float64, on the host or on a device


class DecidesOnDevice(ABC):
    """A method whose decision needs no look at a number, so that nothing waits for a device."""

    @property
    def decides_on_device(self) -> bool:
        """Whether it does so with its present options."""
        return True

    def weights_solved_for(self, tasks: int, goal: FloatArray | None) -> int:
        """Return the most weights of its min-norm problem; a device has memory for so many."""
        return tasks

    @abstractmethod
    def decide_on_device(
        self, losses: Tensor, gramian: Tensor | None, preference: FloatArray | None
    ) -> Decision:
        """Decide on losses [m] and Gramian [m, m] on a CUDA device, float64; weights stay there."""

    def publish(self) -> None:
        """Tell the device what the memory holds since a decision on the host or a checkpoint."""
        return None  # most methods keep nothing there


class Squares(NamedTuple):
    """Inner products of the gradients of a step's losses.

    Attributes:
        gramian: C over the parameters that it is to be over, [k, k] for k losses.
        norms: squared norms over all parameters, [k].
    """

    gramian: Numbers
    norms: Numbers


class Arithmetic(ABC):
    """How a step computes with numbers of size m. A new device is a subclass."""

    @abstractmethod
    def values(self, losses: Sequence[Tensor], names: Sequence[str]) -> Numbers:
        """Return the numbers behind the losses where they are kept; errors call them by name."""

    @abstractmethod
    def joined(self, values: Sequence[Any]) -> Numbers:
        """Return single numbers, from where they are kept, as one."""

    @abstractmethod
    def squares(self, gradients: TaskGradients, outside: list[int] | None) -> Squares:
        """Return C without the blocks ``outside``, and the squared norms over all blocks."""

    @abstractmethod
    def decide(self, step: Step, squares: Squares | None) -> Report:
        """Return the method's decision; None for squares where no Gramian is needed."""

    @abstractmethod
    def weights(self, report: Report, like: TaskGradients | None) -> Numbers:
        """Return the weights where the gradients are."""

    @abstractmethod
    def checked(self, step: Step, report: Report, direction: Row) -> Report:
        """Return the report once the direction has been looked at."""

    def cannot_overflow(self, weights: Numbers, norms: Numbers) -> bool:
        """Return whether |d| ≤ (1 + Σ_j |w_j|) Σ_j ‖g_j‖ says that d is finite in every dtype."""
        return False

    def poison(self, step: Step) -> Tensor | None:
        """Return a number that makes every weight of a single pass NaN, or None."""
        return None


class HostArithmetic(Arithmetic):
    """Numbers of size m are float64 arrays on the host; they are checked before anything runs.

    Args:
        processes: those that train the model.
    """

    def __init__(self, processes: Processes = ALONE) -> None:
        self.processes = processes

    def values(self, losses: Sequence[Tensor], names: Sequence[str]) -> Numbers:
        """Return the losses; one wait where they are on a CUDA device."""
        return loss_values(losses) if losses else np.zeros(0)

    def joined(self, values: Sequence[Any]) -> Numbers:
        """Return an array."""
        return np.array(values, dtype=np.float64)

    def squares(self, gradients: TaskGradients, outside: list[int] | None) -> Squares:
        """Return C and the squared norms."""
        inside = inside_of(gradients.table.blocks, outside) if outside else None
        return Squares(*self.processes.squares(gradients, inside, outside))

    def decide(self, step: Step, squares: Squares | None) -> Report:
        """Let the method decide on checked numbers."""
        if squares is None:
            return weigh(step, None)
        assert isinstance(squares.gramian, np.ndarray)
        return weigh(step, finite_gramian(step, squares.gramian, np.asarray(squares.norms)))

    def weights(self, report: Report, like: TaskGradients | None) -> Numbers:
        """Return the weights; :class:`TaskGradients` takes them to a device itself."""
        weights: FloatArray = report.weights.numpy()
        return weights

    def cannot_overflow(self, weights: Numbers, norms: Numbers) -> bool:
        """Return whether ‖g_j‖² and w say that d is finite; 1 + is for own gradients' weight 1."""
        if self.processes.several:  # which must agree
            return False
        largest = 1.0 + sum(map(abs, weights.tolist()))
        return bool(largest * sum(map(math.sqrt, norms.tolist())) < 65504.0)  # float16

    def checked(self, step: Step, report: Report, direction: Row) -> Report:
        """Raise where the direction is not finite, before anything but ``.grad`` has changed."""
        if self.processes.all_true(all_finite(direction)):
            return report
        if step.batch.scaled:
            return nonfinite(step)
        for p in step.targets:
            p.grad = None
        for block, d in enumerate(direction):
            if d is not None and not all_finite([d]):
                why = (
                    "one of the losses has a gradient there that is NaN or infinite"
                    if step.one_pass
                    else f"their gradients are too, and the weighted sum is too large for {d.dtype}"
                )
                raise ValueError(
                    f"losses: their weighted gradient is not finite in parameter {block} (shape "
                    f"{list(d.shape)}), though every loss is: {why}"
                )
        raise ValueError("losses: their weighted gradient is not finite")


class DeviceArithmetic(Arithmetic):
    """Numbers of size m stay on the CUDA device of the losses as long as nobody needs them."""

    def values(self, losses: Sequence[Tensor], names: Sequence[str]) -> Numbers:
        """Return the losses on their device."""
        for loss, name in zip(losses, names, strict=True):
            if loss.device != losses[0].device:
                raise ValueError(
                    f"{name}: is on {loss.device}, losses[0] is on {losses[0].device}; all losses "
                    "must be on one device"
                )
        return stacked(losses) if losses else torch.zeros(0, dtype=torch.float64)

    def joined(self, values: Sequence[Any]) -> Numbers:
        """Return a tensor on their device."""
        return torch.stack(list(values))

    def squares(self, gradients: TaskGradients, outside: list[int] | None) -> Squares:
        """Return C and the squared norms on the device."""
        inside, rest = parted(gradients, outside)
        c = cuda.gramian(inside.table)
        if rest is None or rest.table.device < 0:  # no loss reaches any of these blocks
            return Squares(c, c.diagonal())
        return Squares(c, c.diagonal() + cuda.gramian(rest.table).diagonal())

    def decide(self, step: Step, squares: Squares | None) -> Report:
        """Let the method decide on the device; else read all numbers in one copy."""
        values = step.values
        assert isinstance(values, Tensor)
        m = step.tasks
        if squares is None and step.decides_on_device(None):
            return self._decided_there(step, values, None)
        if squares is None:  # weights of an earlier step, which are on the host
            step.look(cuda.to_host(values)[0])
            return weigh(step, None)
        c, norms = squares
        assert isinstance(c, Tensor) and isinstance(norms, Tensor)
        traded = c[:m, :m].contiguous()
        if step.decides_on_device(traded):
            # what is not finite in a block that C is not over, or in the fixed loss, must reach
            # the weights all the same
            seen = values[:m] + 0.0 * norms[:m]
            if len(values) > m:
                seen = seen + (0.0 * (values[m:] + norms[m:])).sum()
            return self._decided_there(step, seen, traded)
        host_values, host_c, host_norms = cuda.to_host(values.to(c.device), c, norms)
        step.look(host_values)
        return weigh(step, finite_gramian(step, host_c, host_norms))

    def _decided_there(self, step: Step, seen: Tensor, c: Tensor | None) -> Report:
        m = step.tasks
        if c is not None and step.batch.unit != 1.0:
            c = c / step.batch.unit**2
        decision = step.decider().decide_on_device(seen[:m], c, step.goal)
        outcome = decision.outcome
        if outcome is None:
            poisoned = (0.0 * seen).sum().isnan()
            outcome = torch.where(poisoned, NONFINITE, OK).double().reshape(1)
        weights = decision.weights * (m if step.method.scale == "sum" else 1)
        assert isinstance(step.values, Tensor)
        return DeviceReport(weights, step.values[:m], c, outcome)

    def weights(self, report: Report, like: TaskGradients | None) -> Numbers:
        """Return the weights on the gradients' device, for a single pass where they are."""
        if like is None or report.weights.device == like.device:
            return report.weights
        return cuda.to_device(report.weights.numpy(), like.device)

    def poison(self, step: Step) -> Tensor | None:
        """Return 0, or NaN where a loss is not finite."""
        return (0.0 * step.values).sum() if isinstance(step.values, Tensor) else None

    def checked(self, step: Step, report: Report, direction: Row) -> Report:
        """Set the status where the direction is not finite, without a look at it."""
        if not isinstance(report, DeviceReport):
            return HostArithmetic().checked(step, report, direction)
        return report.unless_nan(0.0 * largest_entry(direction))


# ---------------------------------------------------------------------------- what C is over


def parted(
    gradients: TaskGradients, outside: list[int] | None
) -> tuple[TaskGradients, TaskGradients | None]:
    """Return the blocks that C is over, and those ``outside``, if there are any."""
    if not outside:
        return gradients, None
    inside = inside_of(gradients.table.blocks, outside)
    return gradients.select(inside), gradients.select(outside)


def inside_of(blocks: int, outside: list[int]) -> list[int]:
    """Return the blocks that C is over.

    Raises:
        ValueError: there are none.
    """
    inside = [block for block in range(blocks) if block not in outside]
    if not inside:
        raise ValueError(
            "gramian_over='shared': no parameter is reached by two losses; unfreeze the "
            "shared part of the model if it is frozen, or set gramian_over='all'"
        )
    return inside
