"""Methods on a device, and a CPU that plays one: the core's functions in the place of its own."""

import numpy as np
import torch

from pyfront import EPO, MGDA, GradNorm, LinearScalarization, ParetoMTL
from pyfront.backend import _core
from pyfront.backend import cuda as devices
from pyfront.backend.cuda import Decision
from pyfront.optimizer import step

X = torch.linspace(-1, 1, 30).reshape(6, 5)
VECTORS = [[0.0, 1.0], [0.6, 0.8], [0.8, 0.6], [1.0, 0.0]]


def min_norm(c, losses=None):
    if losses is not None:
        c = c + 0.0 * losses
    weights, gap, status = _core.min_norm(c.numpy())
    numbers = np.array([_core.STATUSES.index(status), gap])
    return Decision(torch.from_numpy(weights), torch.from_numpy(numbers))


def pareto_mtl(losses, c, vectors, state, *, index, epsilon, warmup_steps, average, rescale):
    """decide.cu's kernel, step by step."""
    phase = _core.PHASES[int(state[0])]
    sound = bool(losses.isfinite().all() and c.isfinite().all())
    if sound:
        weights, status, gap = _core.pareto_mtl(
            losses.numpy(), c.numpy(), vectors.numpy(), index, phase, epsilon
        )
    else:
        weights, status, gap = np.full(len(c), np.nan), "nonfinite", np.nan
    if phase == "feasibility" and sound:
        state[3:] = average * state[3:] + (1.0 - average) * losses
        state[1] += 1
        inside = bool(((vectors - vectors[index]) @ state[3:] <= 0.0).all())
        if inside or status == "stationary" or state[1] >= warmup_steps:
            state[0], state[2] = _core.PHASES.index("descent"), float(inside)
    numbers = np.array([_core.STATUSES.index(status), gap, _core.PHASES.index(phase)])
    return Decision(torch.from_numpy(weights), torch.from_numpy(numbers))


def play(monkeypatch):
    """Take the CPU for a device."""
    monkeypatch.setattr(step, "on_cuda", lambda loss, params: True)
    monkeypatch.setattr(devices, "gramian", lambda t: torch.from_numpy(_core.gramian(t, 1)))
    monkeypatch.setattr(
        devices, "to_device", lambda values, device: torch.from_numpy(values.copy())
    )
    monkeypatch.setattr(
        devices, "to_host", lambda *tensors: [t.detach().clone().numpy() for t in tensors]
    )
    monkeypatch.setattr(devices, "min_norm", min_norm)
    monkeypatch.setattr(devices, "pareto_mtl", pareto_mtl)
    monkeypatch.setattr(devices, "most_weights", lambda device: 64)


METHODS = {
    "MGDA": MGDA,
    "MGDA-l2": lambda base: MGDA(base, normalization="l2"),
    "MGDA-loss": lambda base: MGDA(base, normalization="loss"),
    "MGDA-loss+": lambda base: MGDA(base, normalization="loss+", scale="sum"),
    "MGDA-shared": lambda base: MGDA(base, gramian_over="shared"),
    "MGDA-smooth": lambda base: MGDA(base, weight_smoothing=0.5),
    "Linear-smooth": lambda base: LinearScalarization(base, [2.0, 0.5], weight_smoothing=0.5),
    "MGDA-own": lambda base: MGDA(base, task_gradients="own"),
    "MGDA-every": lambda base: MGDA(base, every=2),
    "EPO": lambda base: EPO(base, [0.7, 0.3]),
    "EPO-smooth": lambda base: EPO(base, [0.7, 0.3], weight_smoothing=0.9, scale="sum"),
    "GradNorm": GradNorm,
    "LinearScalarization": lambda base: LinearScalarization(base, [2.0, 0.5], scale="sum"),
    "ParetoMTL": lambda base: ParetoMTL(base, VECTORS, 1, warmup_steps=3),
    "ParetoMTL-descent": lambda base: ParetoMTL(base, VECTORS, 2, warmup_steps=0, epsilon=0.1),
    "ParetoMTL-far": lambda base: ParetoMTL(base, VECTORS, 3, warmup_steps=3),
}
