"""What the processes of one model tell each other when a step begins."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from torch import Tensor

from pyfront._utils.arguments import FloatArray, require, vector
from pyfront.distributed.header import Header, fingerprint, hashed
from pyfront.distributed.processes import Processes
from pyfront.optimizer.batch import Batch, Losses
from pyfront.optimizer.roles import ParameterValues

if TYPE_CHECKING:
    from pyfront.optimizer.step import Step

__all__ = ["NO_DATA", "Share", "meet", "shares_of"]

NO_DATA = "losses: all are None; a batch without data for any task has no direction, skip it"

Share: TypeAlias = "float | Sequence[float]"


def shares_of(
    share: Share | None, batch: Batch, collected: bool, processes: Processes
) -> FloatArray:
    """Return the number of examples behind each loss of this process, [k].

    The fixed loss counts as the loss with the most.

    Raises:
        TypeError, ValueError: not one number, or one per loss, finite and >= 0; or a share where
            gradients of micro-batches have been averaged without it.
    """
    tasks, places = batch.presence.tasks, batch.presence.places
    if share is None:
        return np.array([1.0] * len(batch.losses))
    if collected and processes.sharded:
        raise ValueError("share: accumulate() has averaged sharded gradients without it")
    if isinstance(share, (int, float)):
        share = [share] * tasks
    shares = vector("share", share, tasks)
    require("share", shares, lowest=0.0)
    most = shares[places].max() if places else shares.max()
    return np.append(shares[places], [most] * (len(batch.losses) - batch.tasks))


def meet(step: Step) -> Step:
    """Return the step with the losses of the whole batch, its own scaled by their part of it.

    It is another step where a task has data in other processes alone.

    Raises:
        ValueError, TypeError: what is wrong on any process, on all.
    """
    headers = step.processes.agree(header_of(step))
    step.method._shared.values["compared"] = True
    step = _on_tasks_of_all(step, headers)
    values, of_all = _of_all(step, headers)
    step.factors = factors = of_all.tolist()
    if step.whole:
        step.look(values)
    if any(factor != 1.0 for factor in factors):
        losses = [f * x for f, x in zip(factors, step.batch.losses, strict=True)]
        step.batch = step.batch._replace(losses=losses)
        if step.split is not None:
            step.split.losses = losses[: step.batch.tasks]
        if step.second is not None:
            step.second = [f * x for f, x in zip(factors, step.second, strict=False)]
    if not step.processes.sharded and step.split is None:
        step.without_data = [task for task, f in enumerate(factors) if f == 0.0]
        for task in step.without_data:  # its loss may be NaN
            step.batch.losses[task] = nothing(step.params)
            if step.second is not None and task < step.batch.tasks:
                step.second[task] = nothing(step.params)
    return step


def nothing(params: Sequence[Tensor]) -> Tensor:
    """Return a loss of 0 with a gradient of zeros, whatever the parameters hold."""
    return params[0].reshape(-1)[:0].abs().sum()


def _on_tasks_of_all(step: Step, headers: Sequence[Header]) -> Step:
    """Return the step on every task that any process has data for.

    Raises:
        ValueError: no process has any, or what is done here needs the same tasks in all.
    """
    m = step.batch.presence.tasks
    there = np.stack([~np.isnan(header.shares[:m]) for header in headers])
    anywhere = there.any(axis=0)
    if step.whole and not anywhere.any():
        raise ValueError(NO_DATA)
    odd = np.argwhere(there != anywhere)
    if not odd.size:
        return step
    process, task = odd[0]
    has = headers[int(np.flatnonzero(there[:, task])[0])].rank
    if reason := _needs_the_same_tasks(step):
        raise ValueError(
            f"losses[{task}]: None on rank {headers[process].rank}, with data on rank {has}: "
            f"{reason}"
        )
    places, call = set(np.flatnonzero(anywhere).tolist()), step.call
    missing = places.difference(step.presence.places)
    if not missing:
        return step

    def filled(losses: Losses) -> list[Tensor | None]:
        return [nothing(step.params) if k in missing else x for k, x in enumerate(losses)]

    second = None if call.second is None else filled(call.second)
    call = replace(call, losses=filled(call.losses), second=second)
    return type(step)(
        step.method, call, step.processes, whole=step.whole, overwrites=step.overwrites
    )


def _needs_the_same_tasks(step: Step) -> str | None:
    if step.processes.sharded:
        return (
            "a sharded model needs every pass in all processes; give 0.0 * output.sum() there, "
            "with share=0 for the task"
        )
    if step.collected is not None or not step.whole:
        return (
            "micro-batches are averaged together; give a finite loss there, and share=0 for the "
            "task to the last call"
        )
    if step.split is not None:
        return "features need every loss; give a finite one there, with share=0 for the task"
    if step.call.replay is not None:
        return "products of a closure need every loss; give a finite one there, with share=0"
    return None


def _of_all(step: Step, headers: Sequence[Header]) -> tuple[FloatArray, FloatArray]:
    """Return the losses of the whole batch, l_j = Σ_i n_ij l_ij / N_j, and W n_ij / N_j of i.

    Losses scaled by the factors have gradients whose mean over the W processes is that of l_j. A
    process without data for a task has n_ij = 0.

    Raises:
        ValueError: what is wrong on any process, on all.
    """
    names = step.batch.names
    m = step.batch.presence.tasks
    columns = [*step.presence.places, *range(m, headers[0].values.size)]
    values = np.stack([header.values[columns] for header in headers])
    shares = np.stack([np.nan_to_num(header.shares[columns]) for header in headers])
    wrong = ~np.isfinite(values) & (shares > 0.0)
    if wrong.any() and not step.batch.scaled:
        process, task = np.argwhere(wrong)[0]
        raise ValueError(
            f"rank {headers[process].rank}: {names[task]} = {values[process, task]:g}: "
            "must be finite"
        )
    total = shares.sum(axis=0)
    if not total.all():
        task = int(np.flatnonzero(total == 0.0)[0])
        raise ValueError(f"share: no process has data for {names[task]}")
    averages = np.where(shares > 0.0, shares * np.where(shares > 0.0, values, 0.0), 0.0)
    mine = shares[[header.rank for header in headers].index(step.processes.rank)]
    return averages.sum(axis=0) / total, len(headers) * mine / total


def header_of(step: Step) -> Header:
    """Return what this process says of itself."""
    method, call, batch, processes = step.method, step.call, step.batch, step.processes
    memory = method.memory
    counts = sorted((name, value) for name, value in memory.items() if isinstance(value, int))
    known = [w == w for w in memory.get("weights", ())]  # NaN is that of a task without data so far
    compared = [] if "compared" in method._shared.values else processes.equal(step.params)
    m, fixed = batch.presence.tasks, len(batch.losses) - batch.tasks
    values, shares = np.zeros(m + fixed), np.full(m + fixed, math.nan)
    values[[*step.presence.places, *range(m, m + fixed)]] = np.asarray(step.values)
    shares[[*batch.presence.places, *range(m, m + fixed)]] = step.shares
    return Header(
        rank=processes.rank,
        facts={
            "tasks": batch.presence.tasks,
            "names": hashed(call.tasks),
            "parameters": len(step.params),
            "size": sum(p.numel() for p in step.params),
            "call": hashed(
                step.whole,
                call.fixed is not None,
                call.features is not None,
                call.second is not None,
                batch.scaled,
                step.collected is not None,
            ),
            "method": hashed(type(method).__name__, *_options(method._shared.options)),
            "preference": hashed(step.goal_of_all, step.one_off),
            "steps": hashed(counts, sorted(memory), known),
            "scale": batch.unit,
        },
        marks=fingerprint(compared) if compared else (math.nan, math.nan),
        values=values,
        shares=shares,
    )


def _options(options: dict[str, object]) -> list[object]:
    """Return names and values of the options whose text does not depend on the process."""
    plain = (str, int, float, list, tuple, np.ndarray, type(None))
    found: list[object] = []
    for name, value in sorted(options.items()):
        if name == "process_group":
            continue
        value = value.values if isinstance(value, ParameterValues) else value
        found += [name, value if isinstance(value, plain) else type(value).__name__]
    return found
