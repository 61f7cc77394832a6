"""What this build can compute on, and the core's work on CUDA tensors.

Everything here is queued on torch's current stream and waits for nothing, except
:func:`to_host`. ``bench/gpu.md`` says on which device it was seen to run, and how to check others.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from pyfront._utils.arguments import FloatArray
from pyfront.backend import _core

__all__ = [
    "PHASES",
    "STATUSES",
    "Availability",
    "Decision",
    "can_solve",
    "capturing",
    "combine",
    "cuda_available",
    "gramian",
    "min_norm",
    "most_weights",
    "pareto_mtl",
    "to_device",
    "to_host",
]


# in the order of their numbers, which is how a device reports them
STATUSES: list[str] = _core.STATUSES
PHASES: list[str] = _core.PHASES


@dataclass(frozen=True)
class Availability:
    """True or False, with the reason.

    Args:
        available: what ``bool()`` of it gives.
        reason: one sentence; empty where available.
    """

    available: bool
    reason: str = ""

    def __bool__(self) -> bool:
        return self.available


def cuda_available() -> Availability:
    """Whether task gradients on a CUDA device are accepted.

    Returns:
        An object that is true or false and says why: ``cuda_available().reason``. False where the
        core was built without CUDA, torch sees no device, the driver is too old for the core, or no
        device has compute capability 7.5.

    Example:
        >>> available = cuda_available()
        >>> bool(available) == (available.reason == "")
        True
    """
    # torch first: it may look without starting the driver, after which no process can be forked
    if _built_with_cuda() and not torch.cuda.is_available():
        reason = "torch sees no CUDA device: there is none, or torch was built without CUDA"
    else:
        reason = _core.device_unavailable()
    return Availability(not reason, reason)


class Decision(NamedTuple):
    """Weights that a method decided on without a look at any number.

    Args:
        weights: w, [m] float64.
        outcome: status, gap and, where a method has phases, phase as numbers of
            ``_core.STATUSES`` and ``_core.PHASES``, on the device; None where nothing was solved.
    """

    weights: Tensor
    outcome: Tensor | None = None


def capturing(device: torch.device) -> bool:
    """Whether a CUDA graph is recording what is queued now."""
    return device.type == "cuda" and bool(torch.cuda.is_current_stream_capturing())


def to_device(values: FloatArray, device: torch.device) -> Tensor:
    """Return a copy of ``values`` on the device that the processor does not wait for."""
    if capturing(device):
        raise RuntimeError(
            "a CUDA graph would copy these numbers anew at every replay: give a tensor that is on "
            "the device, and a method its reference vectors when it is made"
        )
    return torch.from_numpy(values).pin_memory().to(device, non_blocking=True)


def to_host(*tensors: Tensor) -> list[FloatArray]:
    """Return the float64 numbers of CUDA tensors: one copy, and one wait for it."""
    if capturing(tensors[0].device):
        raise RuntimeError(
            "these numbers are needed on the host, for which a CUDA graph cannot wait: capture a "
            "step that decides on the device, or EPO as two graphs around its linear program"
        )
    device = tensors[0].device
    flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
    pinned = torch.empty(flat.shape, dtype=flat.dtype, device="cpu", pin_memory=True)
    with torch.cuda.device(device):
        pinned.copy_(flat, non_blocking=True)
        copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
        copied.record()
        copied.synchronize()
    parts = torch.split(pinned, [tensor.numel() for tensor in tensors])
    return [
        part.clone().reshape(tensor.shape).numpy()
        for part, tensor in zip(parts, tensors, strict=True)
    ]


def gramian(table: _core.TensorTable) -> Tensor:
    """Return C = J Jᵀ of gradients on a CUDA device, [m, m] float64 there."""
    device = torch.device("cuda", table.device)
    plan = _core.GramianPlan(table)
    m = table.tasks
    c = torch.empty(m, m, dtype=torch.float64, device=device)
    partials = _numbers(plan.slots * m * (m + 1) // 2, device)
    _core.device_gramian(table, plan, c.data_ptr(), partials.data_ptr(), _stream(device))
    return c


def combine(table: _core.TensorTable, weights: Tensor, direction: _core.TensorTable) -> None:
    """Write d = Jᵀ w into tensors on the gradients' device, for float64 weights [m] there."""
    _core.device_combine(table, weights.data_ptr(), direction, _stream(weights.device))


def most_weights(device: torch.device) -> int:
    """Return the most weights that a min-norm problem on a CUDA device can have."""
    return _core.device_most_weights(_index(device))


def can_solve(gramian: Tensor) -> bool:
    """Return whether this Gramian is on a CUDA device that can solve for its weights."""
    return bool(
        gramian.is_cuda
        and not gramian.is_complex()
        and gramian.dim() == 2
        and cuda_available()
        and gramian.shape[0] <= most_weights(gramian.device)
    )


def min_norm(c: Tensor, losses: Tensor | None = None) -> Decision:
    """Return min-norm weights of a Gramian on a CUDA device.

    Args:
        c: C, [m, m] float64, contiguous.
        losses: [m] float64, contiguous: NaN or infinity in them makes the weights NaN, as it does
            in C.
    """
    weights = torch.empty(c.shape[0], dtype=c.dtype, device=c.device)
    outcome = _numbers(2, c.device)
    _core.device_min_norm(
        c.data_ptr(),
        c.shape[0],
        0 if losses is None else losses.data_ptr(),
        weights.data_ptr(),
        outcome.data_ptr(),
        _index(c.device),
        _stream(c.device),
    )
    return Decision(weights, outcome)


def pareto_mtl(
    losses: Tensor,
    c: Tensor,
    vectors: Tensor,
    state: Tensor,
    *,
    index: int,
    epsilon: float,
    warmup_steps: int,
    average: float,
    rescale: bool,
) -> Decision:
    """Decide on Pareto MTL's weights on a CUDA device, in the phase of ``state``, and update it.

    Args:
        losses: l, [m] float64, contiguous.
        c: C, [m, m] float64, contiguous.
        vectors: U, [K, m] float64, unit vectors, contiguous.
        state: [3 + m] float64: phase, steps of the feasibility phase, whether it ended in the
            region, running average of the losses.
        index: k.
        epsilon: ε of the descent phase.
        warmup_steps: the most steps of the feasibility phase.
        average: the share of the earlier losses in the running average.
        rescale: the descent phase's weights times m / Σ|w|.
    """
    m, count, device = c.shape[0], vectors.shape[0], c.device
    weights = torch.empty(m, dtype=c.dtype, device=device)
    outcome = _numbers(3, device)
    workspace = _numbers(_core.device_pareto_mtl_workspace(m, count), device)
    _core.device_pareto_mtl(
        m,
        count,
        index,
        epsilon,
        warmup_steps,
        average,
        rescale,
        losses.data_ptr(),
        c.data_ptr(),
        vectors.data_ptr(),
        state.data_ptr(),
        workspace.data_ptr(),
        weights.data_ptr(),
        outcome.data_ptr(),
        _index(device),
        _stream(device),
    )
    return Decision(weights, outcome)


def _built_with_cuda() -> bool:
    return hasattr(_core, "GramianPlan")


def _numbers(count: int, device: torch.device) -> Tensor:
    return torch.empty(count, dtype=torch.float64, device=device)


def _stream(device: torch.device) -> int:
    return int(torch.cuda.current_stream(device).cuda_stream)


def _index(device: torch.device) -> int:
    return torch.cuda.current_device() if device.index is None else device.index
