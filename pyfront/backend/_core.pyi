"""Compiled core: no check of values, float64 in and out. Use :mod:`pyfront.functional`."""

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

_Array = NDArray[np.float64]
# (cost [m], rows [k + 1, m], lower [k + 1], basis [k + 1]) -> (status, β [m], duals [k + 1])
_Highs: TypeAlias = Callable[
    [_Array, _Array, _Array, NDArray[np.int32]], tuple[str, _Array | None, _Array | None]
]

STATUSES: list[str]
PHASES: list[str]

class DeviceError(RuntimeError): ...

class TensorTable:
    """Non-owning view of m rows of T tensors, and of which of them cannot be read in place."""

    def __init__(
        self,
        rows: Sequence[Sequence[object]],
        tensor_type: type,
        use_exchange_api: bool = True,
    ) -> None: ...
    @property
    def tasks(self) -> int: ...
    @property
    def blocks(self) -> int: ...
    @property
    def device(self) -> int: ...
    @property
    def irregular(self) -> list[tuple[int, int]]: ...
    @property
    def first_tasks(self) -> list[int]: ...
    def destination(
        self, out: Sequence[object], tensor_type: type, plain: bool
    ) -> TensorTable | None: ...

def graph_holds(losses: Sequence[object], type: str, leaf: str) -> bool: ...

class LinearProgram:
    """Work space of one linear program; not to be shared between threads."""

    def __init__(self, highs: _Highs, *, highs_only: bool = False) -> None: ...
    def maximize(self, cost: _Array, rows: _Array, lower: _Array) -> tuple[_Array, float, str]: ...

class EpoSolver:
    """EPO weights, and their work space; not to be shared between threads."""

    def __init__(self, highs: _Highs) -> None: ...
    def solve(
        self,
        losses: _Array,
        gramian: _Array,
        preference: _Array,
        epsilon: float,
        restricted: bool,
    ) -> tuple[_Array, str, str, float, float]: ...

def simd_levels() -> list[str]: ...
def gramian(table: TensorTable, threads: int, simd: int = 0) -> _Array: ...
def combine(
    table: TensorTable, weights: _Array, direction: TensorTable, threads: int, simd: int = 0
) -> None: ...
def all_finite(table: TensorTable, threads: int, simd: int = 0) -> bool: ...
def min_norm(
    gramian: _Array,
    linear: _Array | None = None,
    start: _Array | None = None,
    max_iterations: int = 0,
) -> tuple[_Array, float, str]: ...
def dual_cone(gramian: _Array, floors: _Array) -> tuple[_Array, float, str]: ...
def pareto_mtl(
    losses: _Array,
    gramian: _Array,
    reference_vectors: _Array,
    index: int,
    phase: str,
    epsilon: float,
) -> tuple[_Array, str, float]: ...
def non_uniformity(losses: _Array, preference: _Array) -> float: ...

# On a CUDA device; addresses are of device memory and of a stream. Only with a core built by nvcc,
# but for the first.
def device_unavailable() -> str: ...

class GramianPlan:
    def __init__(self, table: TensorTable) -> None: ...
    @property
    def slots(self) -> int: ...

def device_gramian(
    table: TensorTable, plan: GramianPlan, c: int, partials: int, stream: int
) -> None: ...
def device_combine(
    table: TensorTable, weights: int, direction: TensorTable, stream: int
) -> None: ...
def device_most_weights(device: int) -> int: ...
def device_min_norm(
    gramian: int, tasks: int, losses: int, weights: int, outcome: int, device: int, stream: int
) -> None: ...
def device_pareto_mtl_workspace(tasks: int, vectors: int) -> int: ...
def device_pareto_mtl(
    tasks: int,
    vectors: int,
    index: int,
    epsilon: float,
    warmup_steps: int,
    average: float,
    rescale: bool,
    losses: int,
    gramian: int,
    reference_vectors: int,
    state: int,
    workspace: int,
    weights: int,
    outcome: int,
    device: int,
    stream: int,
) -> None: ...
