"""The CUDA kernels compiled for the processor, where emulated_cuda stands for CUDA's headers."""

import ctypes
import functools
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

ROOT = Path(__file__).parent.parent
DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)  # in the core's order
NUMBERS = {dtype: number for number, dtype in enumerate(DTYPES)}
SHARED_BYTES = 232448  # of a thread block of an H100


def obstacle():
    """Why the kernels cannot be compiled here; empty where they can."""
    if sys.platform != "linux":
        return "the lanes are fibers of Linux"
    if shutil.which("g++") is None:
        return "no g++ on the PATH"
    if not (ROOT / "csrc").is_dir():
        return "the sources of the core are not beside the tests"
    return ""


class FaultError(AssertionError):
    """What a GPU would not put right, or what a call throws."""


def compiled(source):
    """A source of this folder, compiled with the emulated headers and loaded.

    Its functions whose names begin with ``emulate_`` raise :class:`FaultError` for accesses of the
    kernels out of bounds, misaligned, of shared memory that nobody has written, or that nothing
    orders; for lanes that do not meet; and for what the call throws.
    """
    tests = ROOT / "tests"
    flags = ["-std=c++20", "-O1", "-fPIC", "-ffp-contract=off", "-fno-threadsafe-statics"]
    flags += ["-fno-gnu-unique", f"-I{tests / 'emulated_cuda'}", f"-I{ROOT / 'csrc'}", "-c"]
    with tempfile.TemporaryDirectory() as folder:
        target, kernels, watch = (Path(folder) / name for name in ("all.so", "k.o", "w.o"))
        commands = (
            [*flags, "-fsanitize=thread", tests / source, "-o", kernels],
            [*flags, tests / "emulated_cuda" / "watch.cpp", "-o", watch],
            ["-shared", kernels, watch, "-o", target],  # watch.cpp for the sanitizer's library
        )
        for command in commands:
            subprocess.run(["g++", *map(str, command)], check=True)
        return Watched(str(target))


class Watched(ctypes.CDLL):
    def __getattr__(self, name):
        function = super().__getattr__(name)
        if name.startswith("emulate_"):
            function.errcheck = self._without_faults
        return function

    def _without_faults(self, result, function, _):
        self.first_fault.restype = ctypes.c_char_p
        faults, first = self.faults(), self.first_fault().decode()
        self.forget_faults()
        if faults > 0:
            raise FaultError(f"{function.__name__}: {faults} faults, the first: {first}")
        return result


@functools.cache
def kernels():
    """tests/device_harness.cpp: the kernels and their plans."""
    loaded = compiled("device_harness.cpp")
    loaded.tile_columns.restype = ctypes.c_int64
    return loaded


def pointer(array):
    return array.ctypes.data_as(ctypes.c_void_p)


def arguments(rows, lengths, dtypes):
    """Tasks, blocks, and the arrays of a table; the arrays must outlive the call."""
    addresses = [0 if g is None else g.data_ptr() for row in rows for g in row]
    return (
        len(rows),
        len(lengths),
        np.array(addresses, dtype=np.uint64),
        np.array(lengths, dtype=np.int64),
        np.array([NUMBERS[dtype] for dtype in dtypes], dtype=np.uint8),
    )


def gramian(harness, rows, lengths, dtypes, multiprocessors=2):
    """C and the number of launches."""
    m, blocks, addresses, sizes, types = arguments(rows, lengths, dtypes)
    c = np.full((m, m), np.nan)
    launches = harness.emulate_gramian(
        m, blocks, pointer(addresses), pointer(sizes), pointer(types), multiprocessors, pointer(c)
    )
    return c, launches


def combine(harness, rows, weights, out, multiprocessors=2):
    """Writes d into the tensors ``out``."""
    lengths, dtypes = [g.numel() for g in out], [g.dtype for g in out]
    m, blocks, addresses, sizes, types = arguments(rows, lengths, dtypes)
    # a tensor's own data_ptr() is null where it is empty
    starts = [g.untyped_storage().data_ptr() + g.storage_offset() * g.element_size() for g in out]
    targets = np.array(starts, dtype=np.uint64)
    harness.emulate_combine(
        m,
        blocks,
        pointer(addresses),
        pointer(targets),
        pointer(sizes),
        pointer(types),
        pointer(np.asarray(weights, dtype=np.float64)),
        multiprocessors,
    )


def min_norm(harness, c, losses=None):
    """Weights, gap and the number of the status."""
    weights, outcome = np.full(len(c), -1.0), np.full(2, -1.0)
    seen = None if losses is None else pointer(losses)
    harness.emulate_min_norm(pointer(c), len(c), seen, pointer(weights), pointer(outcome))
    return weights, outcome[1], int(outcome[0])


def pareto_mtl(harness, losses, c, vectors, state, *, index, epsilon, steps, average, rescale):
    """Weights, status, gap and phase, as numbers; ``state`` is moved on."""
    weights, outcome = np.full(len(c), -1.0), np.full(3, -1.0)
    numbers = np.array([epsilon, steps, average, float(rescale)])
    arrays = (numbers, losses, c, vectors, state, weights, outcome)
    harness.emulate_pareto_mtl(len(c), len(vectors), index, *map(pointer, arrays))
    return weights, int(outcome[0]), outcome[1], int(outcome[2])
