"""The decision of a step on the host: the method's weights, smoothed, scaled and checked."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from pyfront._utils.arguments import FloatArray
from pyfront.optimizer.delegating import Memory
from pyfront.optimizer.presence import counted, rarity
from pyfront.optimizer.product_pass import LearnsFromProducts
from pyfront.report import Report

if TYPE_CHECKING:
    from pyfront.optimizer.method import Method
    from pyfront.optimizer.step import Step

__all__ = ["finite_gramian", "nonfinite", "observed", "weigh"]


def finite_gramian(step: Step, c: FloatArray, norms: FloatArray) -> FloatArray:
    """Return C of the m losses in their own unit.

    Where a gradient is not finite, in any block or of the fixed loss: a ``ValueError`` that names
    it, or all NaN for a batch under a gradient scaler.
    """
    batch, m = step.batch, step.tasks
    if step.sound and all(map(math.isfinite, norms.tolist())):
        traded = c if c.shape[0] == m else np.ascontiguousarray(c[:m, :m])
        return traded if batch.unit == 1.0 else traded / batch.unit**2
    if batch.scaled:
        return np.full((m, m), np.nan)
    task = int(np.flatnonzero(~np.isfinite(norms))[0])
    value = f" = {np.asarray(step.values)[task]:g}" if task < m else ""
    name = [*step.presence.names(), "fixed"][task]
    raise ValueError(
        f"{name}{value}: its gradient is not finite, or longer than 1e154 (squared norm "
        f"{norms[task]:g})"
    )


def weigh(step: Step, c: FloatArray | None) -> Report:
    """Return the weights to apply; the memory from this step on becomes the step's.

    Args:
        c: C, [m, m], or None where the method does not need it.
    """
    method = step.method
    if c is not None and math.isnan(c.item(0)):
        return nonfinite(step)
    alone = step.one_off and not method.counts_one_off_calls
    report, after = _working_on(
        step, method.fresh() if alone else method.settled(), lambda: _decided(step, c)
    )
    if alone:
        return report
    step.memory = after
    if method.makes_up_for_absence():
        return _made_up_for(step, report)
    step.memory.pop("presence", None)  # of steps that did
    return report


def _made_up_for(step: Step, report: Report) -> Report:
    """Return the report with weights that make up for the calls in which tasks have no data."""
    counts = counted(step.method.memory.get("presence"), step.presence)
    if counts is None:
        return report
    step.memory["presence"] = counts
    factors = torch.tensor(rarity(counts, step.presence), dtype=torch.float64, device="cpu")
    return replace(report, weights=report.weights * factors)


def _working_on(step: Step, memory: Memory, work: Callable[[], Report]) -> tuple[Report, Memory]:
    """Return what comes of work on the memory of the tasks present, and the memory of all then."""
    method, presence = step.method, step.presence
    draft = method.memory_among(memory, presence)
    with method.drafting(draft, presence):
        report = work()
    return report, method.memory_after(memory, draft, presence)


def _decided(step: Step, c: FloatArray | None) -> Report:
    method, memory = step.method, step.method.memory
    s, losses = method.weight_smoothing, np.asarray(step.values)[: step.tasks]
    if step.due:
        report = method.decide(losses, c, step.goal)
        weights = _checked_weights(method, report, losses.size)
        if s > 0.0 and not step.one_off:
            before = _running(step, weights.numel())  # read now: a method may have dropped them
            weights = torch.where(before.isnan(), weights, s * before + (1.0 - s) * weights)
    else:
        weights = torch.from_numpy(np.array(memory["weights"]))
        report = Report(weights=weights, status=method.status_between_decisions())
    if method.keeps_weights and not step.one_off:
        memory.update(weights=weights.tolist(), age=memory.get("age", 0) + 1)
    return replace(
        report,
        weights=weights * weights.numel() if method.scale == "sum" else weights,
        losses=torch.from_numpy(losses),
        gramian=None if c is None else torch.from_numpy(c),
    )


def _running(step: Step, tasks: int) -> Tensor:
    """Return the running average of the weights, [m]; NaN where the decision is its first value."""
    method = step.method
    begin = method.first_weights(step.goal)
    first = np.full(tasks, np.nan) if begin is None else begin
    before = method.recalled("weights", first)
    return torch.from_numpy(np.where(np.isnan(before), first, before))


def nonfinite(step: Step) -> Report:
    """Return the report of a step that decides nothing; the memory stays as it was."""
    step.memory = step.method.settled()
    losses = torch.from_numpy(np.asarray(step.values)[: step.tasks])
    return Report(torch.full_like(losses, torch.nan), losses, status="nonfinite")


def observed(step: Step, report: Report) -> Report:
    """Let a method that needs products learn from C w."""
    if not step.learns or report.status == "nonfinite":
        return report
    factor = report.weights.numel() if step.method.scale == "sum" else 1
    applied = replace(report, weights=report.weights / factor)
    if step.product is not None:
        product = step.product / factor
    else:
        assert report.gramian is not None
        product = (report.gramian @ applied.weights).numpy()
    if not np.isfinite(product).all():
        return report  # overflowed under a gradient scaler, where the direction did not
    method = step.method
    assert isinstance(method, LearnsFromProducts)
    observed, step.memory = _working_on(
        step, step.memory, lambda: method.observe(applied, product, step.goal)
    )
    return replace(observed, weights=report.weights)


def _checked_weights(method: Method, report: Report, tasks: int) -> Tensor:
    """Return the weights of a decision, which must be m finite numbers in float64.

    Raises:
        TypeError, ValueError: a method that returns something else; its class is named.
    """
    who = f"{type(method).__name__}.decide"
    weights = getattr(report, "weights", None)
    if not isinstance(report, Report) or not isinstance(weights, Tensor):
        raise TypeError(f"{who}: expected a Report with weights, got {type(report).__name__}")
    if weights.dtype is not torch.float64 or weights.is_cuda:
        raise TypeError(
            f"{who}: expected float64 weights on the CPU, got {weights.dtype} on {weights.device}"
        )
    if weights.shape != (tasks,):
        raise ValueError(f"{who}: expected {tasks} weights, got shape {list(weights.shape)}")
    if not all(map(math.isfinite, values := weights.tolist())):
        raise ValueError(f"{who}: the weights are not finite: {values}")
    return weights
