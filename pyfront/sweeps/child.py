"""One run in a process of its own, started from a thread of an executor's worker."""

from __future__ import annotations

import contextlib
import faulthandler
import importlib
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

from pyfront.front.front import Solution
from pyfront.sweeps.training import Failure, Job, Train, outcome_of

__all__ = ["how_it_ended", "train_in_child"]

_COMMAND = "import sys; from pyfront.sweeps.child import _main; _main(sys.argv[1])"


def train_in_child(train: Train, job: Job, steps: bool) -> Solution | Failure:
    """Train one job in a new interpreter, which ends with this process.

    It is not started by `multiprocessing`, which refuses to start processes in the daemonic workers
    of dask. `train` is sent by cloudpickle where that is installed, as executors send it.
    """
    with tempfile.TemporaryDirectory(prefix="pyfront-") as folder:
        (Path(folder) / "job").write_bytes(_pickler().dumps((train, job, steps)))
        process = subprocess.Popen(
            [sys.executable, "-c", _COMMAND, folder],
            stdin=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            start_new_session=True,
        )
        try:
            code = process.wait()
        finally:
            with contextlib.suppress(ProcessLookupError, PermissionError):  # the group is empty
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
        try:
            outcome = pickle.loads((Path(folder) / "outcome").read_bytes())
        except FileNotFoundError:
            return Failure(job.run, f"the process of this run ended with {how_it_ended(code)}")
    assert isinstance(outcome, Solution | Failure)
    return outcome


def how_it_ended(code: int) -> str:
    """Write the exit code of a process, or the signal that ended it."""
    return f"signal {-code} ({signal.strsignal(-code)})" if code < 0 else f"exit code {code}"


def _pickler() -> Any:
    try:
        return importlib.import_module("cloudpickle")
    except ModuleNotFoundError:
        return pickle


def _main(folder: str) -> None:
    """Train the job in `folder`; the parent process keeps stdin open while it lives."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    faulthandler.enable()
    train, job, steps = pickle.loads((Path(folder) / "job").read_bytes())
    outcome = outcome_of(train, job, (lambda _: None) if steps else None)
    part = Path(folder) / "part"
    part.write_bytes(pickle.dumps(outcome))
    part.replace(Path(folder) / "outcome")


def _end_with_parent() -> None:
    while os.read(0, 1):  # nothing is sent: it returns when the other end is closed
        pass
    os.killpg(os.getpid(), signal.SIGKILL)
