"""``backward()`` on a CUDA device, with as few waits for it as the method needs: none, or one.

Methods that decide on the device (:class:`DecidesOnDevice`) leave every number there; for the
others C and the losses come to the host in one copy. Steps that need more looks at the losses (a
gradient scaler, micro-batches, ``every``, ``task_gradients="own"``) go the way of the CPU, which is
as right and waits more often.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from pyfront._utils.arguments import FloatArray, VectorsLike, require
from pyfront.backend import _core
from pyfront.backend import cuda as devices
from pyfront.backend.cuda import Decision
from pyfront.backend.task_gradients import TaskGradients, direction_buffers
from pyfront.gradients import engines as grad
from pyfront.gradients.losses import as_losses, stacked
from pyfront.optimizer.batch import Batch, Losses, check_gramian, parted, refuse_several_processes
from pyfront.optimizer.roles import left_out, own_blocks
from pyfront.report import DeviceReport, Report

if TYPE_CHECKING:
    from pyfront.optimizer.multi_task import MultiTaskOptimizer

__all__ = ["DecidesOnDevice", "backward", "is_for"]


_OK, _NONFINITE = (float(_core.STATUSES.index(status)) for status in ("ok", "nonfinite"))


class DecidesOnDevice(ABC):
    """A method whose decision needs no look at a number, so that nothing waits for a device."""

    @property
    def decides_on_device(self) -> bool:
        """Whether it does so with its present options."""
        return True

    def weights_solved_for(self, tasks: int) -> int:
        """The weights that its min-norm problem has at most; a device has memory for so many."""
        return tasks

    @abstractmethod
    def decide_on_device(
        self, losses: Tensor, gramian: Tensor | None, preference: FloatArray | None
    ) -> Decision:
        """From losses [m] and Gramian [m, m] on a CUDA device, float64, to weights there."""


def is_for(opt: MultiTaskOptimizer, losses: Losses, scaled: bool) -> bool:
    """Whether :func:`backward` makes this step."""
    return (
        on_cuda(opt, losses)
        and not scaled
        and opt._accumulated is None
        and opt.every == 1
        and opt.task_gradients == "weighted"
        and (opt.needs == "gramian" or _decider(opt) is not None)
    )


def _decider(opt: MultiTaskOptimizer, c: Tensor | None = None) -> DecidesOnDevice | None:
    """The method, if its decision can be made on the device, where C is."""
    if opt.weight_smoothing > 0.0 or not isinstance(opt, DecidesOnDevice):
        return None
    fits = c is None or opt.weights_solved_for(c.shape[0]) <= devices.most_weights(c.device)
    return opt if fits and opt.decides_on_device else None


def on_cuda(opt: MultiTaskOptimizer, losses: Losses) -> bool:
    """Whether losses and parameters are on a CUDA device, as far as the first ones tell."""
    first = losses[0] if isinstance(losses, (list, tuple)) and losses else losses
    trained = (p for group in opt.param_groups for p in group["params"] if p.requires_grad)
    return isinstance(first, Tensor) and first.is_cuda and next((p.is_cuda for p in trained), False)


def backward(
    opt: MultiTaskOptimizer,
    losses: Losses,
    preference: VectorsLike | None,
    fixed: Tensor | None,
    retain_graph: bool,
) -> Report:
    """:meth:`MultiTaskOptimizer.backward` for losses on a CUDA device."""
    refuse_several_processes()
    roots = as_losses(losses)
    m = len(roots)
    roots += [] if fixed is None else as_losses([fixed], name="fixed")
    _check_devices(roots, m)
    if opt.report is None and devices.capturing(roots[0].device):
        raise RuntimeError(
            "a CUDA graph of the first step would set what the optimizers keep to its first value "
            "at every replay: make a few steps before the capture"
        )
    batch = Batch(
        roots,
        np.zeros(m),  # the values stay on the device
        unit=1.0,
        scaled=False,
        sound=True,
        preference=opt._preference_for(preference, m),
        one_off=opt._is_one_off(preference),
    )
    step = _by_losses if opt.needs == "losses" else _by_gramian
    report = opt.report = step(opt, batch, retain_graph)
    return report


def _by_losses(opt: MultiTaskOptimizer, batch: Batch, retain_graph: bool) -> Report:
    """Weights that are known without a Gramian: one backward pass."""
    params = opt._params()
    values = stacked(batch.losses)
    poison = (0.0 * values).sum()
    assert isinstance(opt, DecidesOnDevice)
    losses = values[: batch.values.size]
    decision = _scaled(opt, opt.decide_on_device(losses, None, batch.preference))
    status = torch.where(poison.isnan(), _NONFINITE, _OK).reshape(1)
    report = DeviceReport(decision.weights, losses, None, status)
    weights = opt._with_fixed(report, batch).tolist()
    engine = opt._engine_for(batch.losses, params)
    direction = grad.weighted_gradient(batch.losses, weights, params, engine, retain_graph, poison)
    opt._commit(params, direction, None, None)
    return report


def _by_gramian(opt: MultiTaskOptimizer, batch: Batch, retain_graph: bool) -> Report:
    params = opt._params()
    m = batch.values.size
    gradients = TaskGradients(opt._rows(batch, params, None, retain_graph))
    roles = opt._roles(gradients.rows[:m], len(params))
    own = None if roles is None else own_blocks(roles, opt.param_groups)
    c, diagonal = _gramian(gradients, left_out(opt.gramian_over, own, opt.param_groups))
    values = stacked(batch.losses).to(c.device)
    buffers = direction_buffers(gradients, params)  # before the decision changes anything
    extra = len(batch.losses) - m
    traded = c[:m, :m].contiguous()
    decider = _decider(opt, traded)
    if decider is not None:
        # what is not finite in a block that C is not over, or in the fixed loss, must reach the
        # weights all the same
        seen = values[:m] + 0.0 * diagonal[:m]
        if extra > 0:
            seen = seen + (0.0 * (values[m:] + diagonal[m:])).sum()
        decision = _scaled(opt, decider.decide_on_device(seen, traded, batch.preference))
        report: Report = DeviceReport(decision.weights, values[:m], traded, decision.outcome)
        kept, weights = None, decision.weights
    else:
        report, kept = opt._weigh(*_read(opt, batch, values, c, diagonal))
        weights = devices.to_device(report.weights.numpy(), c.device)
    gradients.combine(torch.cat([weights, weights.new_ones(extra)]) if extra else weights, buffers)
    opt._commit(params, buffers, kept, roles)
    return report


def _scaled(opt: MultiTaskOptimizer, decision: Decision) -> Decision:
    if opt.scale == "mean":
        return decision
    return decision._replace(weights=decision.weights * decision.weights.numel())


def _check_devices(losses: list[Tensor], tasks: int) -> None:
    for task, loss in enumerate(losses):
        if loss.device != losses[0].device:
            name = f"losses[{task}]" if task < tasks else "fixed"
            raise ValueError(
                f"{name}: is on {loss.device}, losses[0] is on {losses[0].device}; all "
                "losses must be on one device"
            )


def _gramian(gradients: TaskGradients, outside: list[int] | None) -> tuple[Tensor, Tensor]:
    """C without the blocks ``outside``, and the squared norms over all blocks."""
    if not outside:
        c = devices.gramian(gradients.table)
        return c, c.diagonal()
    inside, rest = parted(gradients, outside)
    c = devices.gramian(inside.table)
    if rest.table.device < 0:  # no loss reaches any of these blocks
        return c, c.diagonal()
    return c, c.diagonal() + devices.gramian(rest.table).diagonal()


def _read(
    opt: MultiTaskOptimizer,
    batch: Batch,
    values: Tensor,
    c: Tensor,
    diagonal: Tensor,
) -> tuple[Batch, FloatArray]:
    """Losses and Gramian on the host, checked: the one wait of a step that decides there."""
    host_values, host_c, host_diagonal = devices.to_host(values, c, diagonal)
    m = batch.values.size
    require("losses", host_values[:m])
    require("fixed", host_values[m:])
    opt.check_losses(host_values[:m])
    batch = batch._replace(values=host_values[:m])
    return batch, check_gramian(host_c, host_diagonal, batch)
