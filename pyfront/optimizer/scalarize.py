"""One scalar in place of the losses, for loops that call ``backward`` on a loss themselves.

The scalar is one autograd node over the parameters. Its backward pass returns δ d, where δ is the
gradient that arrives at the scalar and d the direction that has been computed already, so that a
step costs m passes and no further one. Where d takes a single pass anyway, and where hooks on
parameters would run on d after they have run on the task gradients, the scalar is the weighted sum
of the losses with their own graph.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from pyfront._utils.torch_private import has_hooks, outside_compile
from pyfront.gradients.losses import widened
from pyfront.optimizer.batch import Losses
from pyfront.optimizer.shared import Shared
from pyfront.report import Report

if TYPE_CHECKING:
    from pyfront.optimizer.step import Step

__all__ = ["scalar_of", "value_without_graph"]


def scalar_of(step: Step, arrived: Callable[[], None]) -> tuple[Tensor, Report]:
    """Return the scalar whose gradient is d, and the decision; ``.grad`` stays as it is.

    Args:
        step: a call that has changed nothing yet.
        arrived: called when the scalar's backward pass runs.

    Raises:
        ValueError: own gradients of tasks, which are no gradient of a sum, together with hooks.
    """
    replicas = step.processes.several and not step.processes.sharded  # d is averaged in the passes
    if step.one_pass and step.method.needs != "products" and not replicas:
        report = step.decided(None)
        return _weighted_sum(step, report, arrived), report
    hooked = has_hooks(step.params)
    if hooked and (replicas or step.method.task_gradients == "own"):
        what = "process_group" if replicas else "task_gradients='own'"
        raise ValueError(
            f"scalarize: tensor hooks on parameters would run twice, and with {what} the direction "
            "is no gradient of a sum of the losses; remove the hooks, or use backward(losses)"
        )
    step.call.retain_graph |= hooked
    report, direction = step.run()
    if hooked:
        return _weighted_sum(step, report, arrived), report
    direction = step.processes.placed(step.params, direction)
    reached = [(p, d) for p, d in zip(step.params, direction, strict=True) if d is not None]
    value = _value(step, report)
    if not reached:
        raise ValueError("losses: they reach no parameter of this optimizer")
    scalar: Tensor = _Direction.apply(  # type: ignore[no-untyped-call]
        value, step.batch.unit, [d for _, d in reached], arrived, *(p for p, _ in reached)
    )
    return scalar, report


def value_without_graph(losses: Losses, shared: Shared, fixed: Tensor | None) -> Tensor:
    """Return Σ_j w_j l_j + fixed where gradients are disabled, as in validation.

    Args:
        losses: m scalar tensors or None, or a 1-D tensor [m].
        shared: knows the weights that each task had when it had data last; one that never had any
            counts as the mean of the others, and so do all before the first report.
        fixed: a further loss, or None.

    Raises:
        ValueError: another number of losses than the report has.
    """
    values = list(losses.unbind()) if isinstance(losses, Tensor) else list(losses)
    m = len(values)
    there = [(task, loss) for task, loss in enumerate(values) if loss is not None]
    if not there:
        raise ValueError("losses: all are None; there is no value")
    weights = _last_weights(shared) or [1.0 / len(there)] * m
    if len(weights) != m:
        raise ValueError(f"losses: expected {len(weights)} as in the last report, got {m}")
    wide = widened([loss for _, loss in there])
    terms = [weights[task] * loss for (task, _), loss in zip(there, wide, strict=True)]
    total: Tensor = sum(terms if fixed is None else [*terms, fixed])  # type: ignore[assignment]
    return total.reshape(())


def _last_weights(shared: Shared) -> list[float]:
    """Return the weight that each task had when it had data last, [m]; nothing before a report."""
    if shared.solved is None:
        return []
    tasks = range(len(shared.solved.weights))
    reports = [shared.earlier.get(task, shared.solved) for task in tasks]
    weights = [
        report.weights[task].item() if report is not None and len(report.weights) > task else None
        for task, report in zip(tasks, reports, strict=True)
    ]
    known = [w for w in weights if w is not None]
    return [sum(known) / len(known) if w is None else w for w in weights]


class _Direction(torch.autograd.Function):
    """A number whose gradient in the parameters is given."""

    @staticmethod
    def forward(
        ctx: Any,
        value: Tensor,
        unit: float,
        direction: list[Tensor],
        arrived: Callable[[], None],
        *params: Tensor,
    ) -> Tensor:
        # saved tensors are released by the backward pass unless it retains the graph, before the
        # gradients are accumulated: then .grad takes over their memory and nothing is copied
        ctx.save_for_backward(*direction)
        ctx.unit = unit
        ctx.arrived = arrived
        return value

    @staticmethod
    @once_differentiable
    @outside_compile
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        try:
            direction = ctx.saved_tensors
        except RuntimeError as error:
            raise RuntimeError(
                "backward() was called twice on a scalar of scalarize(), whose direction the first "
                "call has released; call scalarize(losses) for every backward(), or "
                "backward(retain_graph=True) to add the same direction again"
            ) from error
        ctx.arrived()
        factor = grad_output if ctx.unit == 1.0 else grad_output / ctx.unit
        if not factor.is_cuda and factor.item() == 1.0:
            return None, None, None, None, *direction
        return None, None, None, None, *(_scaled(d, factor) for d in direction)


def _scaled(direction: Tensor, factor: Tensor) -> Tensor:
    """Return the product, through float32 for 16-bit directions: the factor may not fit them."""
    factor = factor.to(direction.device)
    if direction.dtype.itemsize >= 4:
        return direction * factor
    return (direction.float() * factor).to(direction.dtype)


def _value(step: Step, report: Report) -> Tensor:
    """Return Σ_j w_j l_j with the fixed loss, without a graph, on the losses' device."""
    losses = step.batch.losses or [step.params[0]]  # all losses may be of micro-batches before
    weights, values = step.weights_with_fixed(report), step.values
    dtype = functools.reduce(torch.promote_types, (x.dtype for x in losses), torch.float32)
    if isinstance(weights, np.ndarray) and isinstance(values, np.ndarray):
        total = sum(w * x for w, x in zip(weights.tolist(), values.tolist(), strict=True) if w)
        return torch.tensor(total, dtype=dtype, device=losses[0].device)
    weights, values = torch.as_tensor(weights), torch.as_tensor(values)
    terms = weights.to(values.device) * values
    return terms.where(weights.to(terms.device) != 0.0, 0.0).sum().to(losses[0].device, dtype)


def _weighted_sum(step: Step, report: Report, arrived: Callable[[], None]) -> Tensor:
    """Return Σ_j w_j l_j with the fixed loss and the losses' own graph."""
    weights = step.weights_with_fixed(report) / step.batch.unit
    if (poison := step.arithmetic.poison(step)) is not None:
        weights = torch.as_tensor(weights).to(poison) + poison
    numbers: Sequence[Any] = weights.tolist() if not torch.is_tensor(weights) else list(weights)
    wide = widened(step.batch.losses)
    total = sum(w * x.reshape(()) for w, x in zip(numbers, wide, strict=True))
    assert isinstance(total, Tensor)
    total.register_hook(lambda _: arrived())  # type: ignore[no-untyped-call]
    return total
