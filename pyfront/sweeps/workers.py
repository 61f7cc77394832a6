"""Runs in worker processes of one thread each, or one after the other in this process.

A worker is a fresh interpreter with a process group of its own. It asks for runs over its own pipe,
so that the death of one touches no other, and it ends itself, and whatever it has started, when the
process that started it is gone, however that ended.
"""

from __future__ import annotations

import contextlib
import faulthandler
import functools
import multiprocessing
import os
import pickle
import random
import signal
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from typing import Any, TypeAlias

import numpy as np
import torch

from pyfront.front.front import Solution
from pyfront.sweeps.runs import Run

__all__ = ["Failure", "Job", "Listener", "attempt", "run_here", "run_in_workers", "traceback_text"]

_POLL = 1.0  # seconds between two looks for workers whose pipe outlived them
_GRACE = 5.0  # seconds for a worker without work to end by itself
_REPORT = 0.05  # seconds between two reports of steps

_BEFORE_FIRST_RUN = (
    "No worker process could begin: call it under `if __name__ == '__main__':` in a script, "
    "define train in a module or script file (not in a notebook), or use workers=0.\n"
)


@dataclass(frozen=True)
class Job:
    """One run, its place in the order of the sweep, and its own seed."""

    index: int
    run: Run
    seed: int


@dataclass(frozen=True)
class Failure:
    """A run that gave no solution.

    Args:
        preference: what `train` was called with.
        reason: the traceback, or how the worker process ended.
        error: the exception itself, where the run was in this process.
    """

    preference: Run
    reason: str
    error: BaseException | None = None


#: What becomes known of a job: steps made since the last time, or how it ended.
Outcome: TypeAlias = int | Solution | Failure
#: Called with the index of a job.
Listener: TypeAlias = Callable[[int, Outcome], None]
Train: TypeAlias = Callable[..., Solution]


def attempt(train: Callable[..., Any], seed: int, *arguments: Any) -> Any:
    """`train(*arguments)` on one thread, with all global generators at `seed`; both restored."""
    threads, state, numpy_state = torch.get_num_threads(), random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=[]):
            torch.set_num_threads(1)
            torch.manual_seed(seed)
            random.seed(seed)
            np.random.seed(seed % 2**32)
            return train(*arguments)
    finally:
        torch.set_num_threads(threads)
        random.setstate(state)
        np.random.set_state(numpy_state)


def _solve(train: Train, job: Job, advance: Callable[[int], None] | None) -> Solution:
    solution = attempt(train, job.seed, job.run, *([advance] if advance else []))
    if not isinstance(solution, Solution):
        raise TypeError(f"train returned {type(solution).__name__}: expected a pyfront.Solution")
    return solution


def traceback_text(error: BaseException) -> str:
    """The traceback, from the user's first frame on."""
    frames, ours = error.__traceback__, (__name__, "pyfront.sweep")
    while frames is not None and frames.tb_frame.f_globals.get("__name__") in ours:
        frames = frames.tb_next
    return "".join(traceback.format_exception(type(error), error, frames))


def run_here(train: Train, jobs: Sequence[Job], tell: Listener, *, steps: bool) -> None:
    """All jobs one after the other in this process."""
    for job in jobs:
        advance = _reporter(functools.partial(tell, job.index)) if steps else None
        try:
            outcome: Outcome = _solve(train, job, advance)
        except (Exception, SystemExit) as error:
            outcome = Failure(job.run, traceback_text(error), error)
        tell(job.index, outcome)


def run_in_workers(
    train: Train, jobs: Sequence[Job], tell: Listener, *, steps: bool, workers: int
) -> None:
    """All jobs in `workers` processes, in order, each by the first that is free.

    However this ends, no worker and nothing that a worker started is left running.

    Raises:
        TypeError: `train` cannot be pickled.
    """
    try:
        payload = pickle.dumps((train, steps))
    except Exception as error:  # whatever the pickling of a user's object raises
        raise TypeError(
            f"train: cannot be sent to a worker process ({error}): "
            "define it at the top level of a module, or use workers=0"
        ) from error
    _Crew(payload, jobs, tell, workers).work()


class _Worker:
    """A worker process seen from the one that started it."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.crash, crash_writer = context.Pipe(duplex=False)
        self.job: Job | None = None
        self.loaded = False  # it has been sent the training function
        self.process = context.Process(
            target=_serve, args=(theirs, crash_writer), name="pyfront worker"
        )
        self.process.start()
        theirs.close()
        crash_writer.close()

    def send(self, message: bytes) -> None:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # wait() tells of its end
            self.connection.send_bytes(message)

    def stop(self, grace: float = 0.0) -> str:
        """Ends the process and all it has started; says how it ended, and where if it crashed."""
        if grace and self.loaded and self.process.is_alive():
            self.connection.close()
            wait([self.process.sentinel], grace)
        assert self.process.pid is not None
        with contextlib.suppress(ProcessLookupError, PermissionError):  # nobody is left in it
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.kill()  # where it had no group yet
        self.process.join()
        code = self.process.exitcode or 0
        ending = f"signal {-code} ({signal.strsignal(-code)})" if code < 0 else f"exit code {code}"
        where = _available(self.crash).partition("\n\nExtension modules")[0]
        for resource in (self.connection, self.crash, self.process):
            resource.close()
        return f"{where}\nthe worker process ended with {ending}".lstrip()


class _Crew:
    """The workers of one sweep, and the jobs that wait for them."""

    def __init__(self, payload: bytes, jobs: Sequence[Job], tell: Listener, size: int) -> None:
        self._payload = payload
        self._queue = deque(jobs)
        self._tell = tell
        self._size = size
        self._workers: list[_Worker] = []
        self._leaving: list[_Worker] = []

    def work(self) -> None:
        """Until every job has an outcome."""
        grace = 0.0
        resource_tracker.ensure_running()  # its own start would let interrupts through
        try:
            while self._queue or any(worker.job for worker in self._workers):
                self._hire()
                for worker in self._with_news():
                    self._listen(worker)
            grace = _GRACE
        finally:
            with _interrupts_held():
                for worker in self._workers + self._leaving:
                    worker.stop(grace)

    def _hire(self) -> None:
        busy = sum(worker.job is not None for worker in self._workers)
        while len(self._workers) < min(self._size, busy + len(self._queue)):
            # the worker inherits this: a Ctrl-C in a terminal is for the first process alone
            with _interrupts_held():
                self._workers.append(_Worker())

    def _with_news(self) -> list[_Worker]:
        """Those that have sent something or have ended."""
        ready = wait([worker.connection for worker in self._workers], _POLL)
        # what a dead worker has started may hold its pipe open: then only the process tells
        return [w for w in self._workers if w.connection in ready or not w.process.is_alive()]

    def _listen(self, worker: _Worker) -> None:
        try:
            if not worker.connection.poll():
                raise EOFError
            message = pickle.loads(worker.connection.recv_bytes())
        except (EOFError, OSError):
            self._bury(worker)
            return
        if message is None and not worker.loaded:
            worker.loaded = True
            worker.send(self._payload)
        elif worker.job is None and message is not None:
            self._bury(worker, message)
        elif isinstance(message, int) and worker.job is not None:
            self._tell(worker.job.index, message)
        else:
            job, worker.job = worker.job, None
            self._occupy(worker)
            if job is not None:
                self._tell(job.index, message)

    def _occupy(self, worker: _Worker) -> None:
        """Gives it the next job, or lets it go."""
        if self._queue:
            worker.job = self._queue.popleft()
            worker.send(pickle.dumps(worker.job))
        else:
            self._workers.remove(worker)
            self._leaving.append(worker)
            worker.connection.close()

    def _bury(self, worker: _Worker, reason: str = "") -> None:
        """A worker has ended: its job has failed, or all that wait if it never came to one."""
        self._workers.remove(worker)
        failed = [worker.job] if worker.job else list(self._queue)
        reason += worker.stop(_GRACE)
        if worker.job is None:
            self._queue.clear()
            reason = _BEFORE_FIRST_RUN + reason
        for job in failed:
            self._tell(job.index, Failure(job.run, reason))


@contextlib.contextmanager
def _interrupts_held() -> Iterator[None]:
    """Ctrl-C waits until the end of the block."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _available(reader: Connection) -> str:
    """What lies in a pipe, without waiting for more."""
    os.set_blocking(reader.fileno(), False)
    with contextlib.suppress(BlockingIOError):
        return os.read(reader.fileno(), 1 << 16).decode(errors="replace")
    return ""


def _reporter(send: Callable[[int], None]) -> Callable[[int], None]:
    """`advance(steps=1)`, which calls `send` with their sum, at most 20 times a second."""
    pending, last = 0, time.monotonic()

    def advance(steps: int = 1) -> None:
        nonlocal pending, last
        pending += steps
        if (now := time.monotonic()) - last >= _REPORT:
            send(pending)
            pending, last = 0, now

    return advance


def _serve(connection: Connection, crash: Connection) -> None:
    """The life of a worker."""
    os.setpgid(0, 0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    threading.Thread(target=_end_with_parent, daemon=True).start()
    faulthandler.enable(file=crash, all_threads=False)
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        _take_jobs(connection)


def _take_jobs(connection: Connection) -> None:
    """Load the training function, then do job after job until the pipe ends; None asks for more."""

    def send(message: Any) -> None:
        connection.send_bytes(pickle.dumps(message))

    send(None)
    payload = connection.recv_bytes()
    try:
        train, steps = pickle.loads(payload)
    except Exception as error:  # whatever the unpickling of a user's object raises
        send(traceback_text(error))
        return
    send(None)
    while True:
        job: Job = pickle.loads(connection.recv_bytes())
        try:
            outcome: Outcome = _solve(train, job, _reporter(send) if steps else None)
        except (Exception, SystemExit) as error:
            outcome = Failure(job.run, traceback_text(error))
        send(outcome)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os.killpg(os.getpid(), signal.SIGKILL)
