"""What the processes of one model tell each other when a step begins."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from pyfront._utils.arguments import FloatArray, require, vector
from pyfront.distributed.header import Header, fingerprint, hashed
from pyfront.distributed.processes import Processes
from pyfront.optimizer.batch import Batch
from pyfront.optimizer.roles import ParameterValues

if TYPE_CHECKING:
    from pyfront.optimizer.step import Step

__all__ = ["Share", "meet", "shares_of"]

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
    if share is None:
        return np.ones(len(batch.losses))
    if collected and processes.sharded:
        raise ValueError("share: accumulate() has averaged sharded gradients without it")
    if isinstance(share, (int, float)):
        share = [share] * batch.presence.tasks
    shares = vector("share", share, batch.presence.tasks)
    require("share", shares, lowest=0.0)
    shares = shares[batch.presence.places]
    return np.append(shares, [shares.max()] * (len(batch.losses) - batch.tasks))


def meet(step: Step) -> None:
    """Give a step the losses of the whole batch, and scale its own by their part of it.

    Raises:
        ValueError, TypeError: what is wrong on any process, on all.
    """
    values, step.factors = agreed(step)
    if step.whole:
        step.look(values)
    if (step.factors != 1.0).any():
        losses = [f * x for f, x in zip(step.factors.tolist(), step.batch.losses, strict=True)]
        step.batch = step.batch._replace(losses=losses)
        if step.split is not None:
            step.split.losses = losses[: step.batch.tasks]
        if step.second is not None:
            step.second = [f * x for f, x in zip(step.factors, step.second, strict=False)]
    if not step.processes.sharded and step.split is None:
        step.without_data = np.flatnonzero(step.factors == 0.0).tolist()


def agreed(step: Step) -> tuple[FloatArray, FloatArray]:
    """Return the losses of the whole batch, l_j = Σ_i n_ij l_ij / N_j, and W n_ij / N_j of i.

    Losses scaled by the factors have gradients whose mean over the W processes is that of l_j.

    Raises:
        ValueError: what is wrong on any process, on all.
    """
    headers = step.processes.agree(header_of(step))
    step.method._shared.values["compared"] = True
    values = np.stack([header.values for header in headers])
    shares = np.stack([header.shares for header in headers])
    wrong = ~np.isfinite(values) & (shares > 0.0)
    if wrong.any() and not step.batch.scaled:
        process, task = np.argwhere(wrong)[0]
        raise ValueError(
            f"rank {headers[process].rank}: {step.batch.names[task]} = "
            f"{values[process, task]:g}: must be finite"
        )
    total = shares.sum(axis=0)
    if not total.all():
        task = int(np.flatnonzero(total == 0.0)[0])
        raise ValueError(f"share: no process has data for {step.batch.names[task]}")
    averages = np.where(shares > 0.0, shares * np.where(shares > 0.0, values, 0.0), 0.0)
    return averages.sum(axis=0) / total, len(headers) * step.shares / total


def header_of(step: Step) -> Header:
    """Return what this process says of itself."""
    method, call, batch, processes = step.method, step.call, step.batch, step.processes
    memory = method.memory
    counts = sorted((name, value) for name, value in memory.items() if isinstance(value, int))
    compared = [] if "compared" in method._shared.values else processes.equal(step.params)
    return Header(
        rank=processes.rank,
        facts={
            "tasks": batch.presence.tasks,
            "names": hashed(call.tasks),
            "parameters": len(step.params),
            "size": sum(p.numel() for p in step.params),
            "call": hashed(
                step.whole,
                batch.presence.places,
                len(batch.losses),
                call.features is not None,
                call.second is not None,
                batch.scaled,
                step.collected is not None,
            ),
            "method": hashed(type(method).__name__, *_options(method._shared.options)),
            "preference": hashed(step.goal, step.one_off),
            "steps": hashed(counts, sorted(memory), step.due),
            "scale": batch.unit,
        },
        marks=fingerprint(compared) if compared else (math.nan, math.nan),
        values=np.asarray(step.values, dtype=np.float64),
        shares=step.shares,
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
