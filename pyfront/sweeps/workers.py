"""Runs in worker processes of one thread each.

A worker is a fresh interpreter with a process group of its own. It asks for runs over its own pipe,
so that one that crashes affects no other. When the process that started it is gone, however that
ended, the worker ends itself and all processes that it has started.
"""

from __future__ import annotations

import contextlib
import faulthandler
import multiprocessing
import os
import pickle
import signal
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from typing import Any

from pyfront.sweeps.child import how_it_ended
from pyfront.sweeps.training import Failure, Job, OnOutcome, Train, outcome_of, traceback_text

__all__ = ["pickled", "train_in_workers"]

_POLL = 1.0  # seconds between two checks for ended workers whose pipe is still open
_GRACE = 5.0  # seconds for a worker without work to end by itself

_BEFORE_FIRST_RUN = (
    "No worker process could begin: call sweep under `if __name__ == '__main__':` in a script, "
    "define train in a module or script file (not in a notebook), or use workers=0.\n"
)


def train_in_workers(
    train: Train,
    jobs: Sequence[Job],
    on_outcome: OnOutcome,
    *,
    steps: bool,
    workers: int,
    time_limit: float | None = None,
) -> None:
    """Train all jobs in `workers` processes, in order, each in the first that is free.

    However this ends, no worker and nothing that a worker started is left running.

    Raises:
        TypeError: `train` cannot be pickled.
    """
    payload = pickled(train, steps)
    _WorkerPool(payload, jobs, on_outcome, workers, time_limit).run()


def pickled(train: Train, steps: bool) -> bytes:
    """Pickle a training function.

    Raises:
        TypeError: it cannot be pickled.
    """
    try:
        return pickle.dumps((train, steps))
    except Exception as error:  # whatever the pickling of a user's object raises
        raise TypeError(
            f"train: cannot be sent to a worker process ({error}): "
            "define it at the top level of a module, or use workers=0"
        ) from error


class _Worker:
    """A worker process, as the process that started it sees it."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.crash, crash_writer = context.Pipe(duplex=False)
        self.job: Job | None = None
        self._begin = 0.0
        self.loaded = False  # it has been sent the training function
        self.process = context.Process(
            target=_serve, args=(theirs, crash_writer), name="pyfront worker"
        )
        self.process.start()
        theirs.close()
        crash_writer.close()

    @property
    def seconds(self) -> float:
        """The time since its job began."""
        return time.monotonic() - self._begin

    def begin(self, job: Job) -> None:
        """Send it a job."""
        self.job, self._begin = job, time.monotonic()
        self.send(pickle.dumps(job))

    def send(self, message: bytes) -> None:
        """Send bytes; if it has ended, the next wait shows that."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.connection.send_bytes(message)

    def stop(self, grace: float = 0.0) -> str:
        """End the process and all it has started; say how it ended, and where if it crashed."""
        if grace and self.loaded and self.process.is_alive():
            self.connection.close()
            wait([self.process.sentinel], grace)
        assert self.process.pid is not None
        with contextlib.suppress(ProcessLookupError, PermissionError):  # the group is empty
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.kill()  # in case it had no group yet
        self.process.join()
        ending = how_it_ended(self.process.exitcode or 0)
        where = _available(self.crash).partition("\n\nExtension modules")[0]
        for resource in (self.connection, self.crash, self.process):
            resource.close()
        return f"{where}\nthe worker process ended with {ending}".lstrip()


class _WorkerPool:
    """The worker processes of one sweep, and the jobs that wait for them."""

    def __init__(
        self,
        payload: bytes,
        jobs: Sequence[Job],
        on_outcome: OnOutcome,
        size: int,
        time_limit: float | None,
    ) -> None:
        self._payload = payload
        self._queue = deque(jobs)
        self._on_outcome = on_outcome
        self._size = size
        self._time_limit = time_limit
        self._workers: list[_Worker] = []
        self._without_work: list[_Worker] = []

    def run(self) -> None:
        """Run until every job has an outcome."""
        grace = 0.0
        resource_tracker.ensure_running()  # its own start would let interrupts through
        try:
            while self._queue or any(worker.job for worker in self._workers):
                self._start_workers()
                for worker in self._ready_workers():
                    self._read_message(worker)
                self._stop_overdue()
            grace = _GRACE
        finally:
            with _interrupts_held():
                for worker in self._workers + self._without_work:
                    worker.stop(grace)

    def _start_workers(self) -> None:
        busy = sum(worker.job is not None for worker in self._workers)
        while len(self._workers) < min(self._size, busy + len(self._queue)):
            # the worker inherits this: a Ctrl-C in a terminal is for the first process alone
            with _interrupts_held():
                self._workers.append(_Worker())

    def _ready_workers(self) -> list[_Worker]:
        """Wait for workers that have sent something or have ended."""
        timeout = _POLL
        if self._time_limit is not None:
            running = [worker.seconds for worker in self._workers if worker.job]
            timeout = max(0.0, min(_POLL, self._time_limit - max(running, default=0.0)))
        ready = wait([worker.connection for worker in self._workers], timeout)
        # a process that a dead worker has started may hold its pipe open
        return [w for w in self._workers if w.connection in ready or not w.process.is_alive()]

    def _read_message(self, worker: _Worker) -> None:
        try:
            if not worker.connection.poll():
                raise EOFError
            message = pickle.loads(worker.connection.recv_bytes())
        except (EOFError, OSError):
            self._remove(worker)
            return
        if message is None and not worker.loaded:
            worker.loaded = True
            worker.send(self._payload)
        elif worker.job is None and message is not None:
            self._remove(worker, message)
        elif isinstance(message, int) and worker.job is not None:
            self._on_outcome(worker.job.index, message)
        else:
            job, worker.job = worker.job, None
            self._send_next_job(worker)
            if job is not None:
                self._on_outcome(job.index, message)

    def _send_next_job(self, worker: _Worker) -> None:
        """Send the next job; a worker without one may end."""
        if self._queue:
            worker.begin(self._queue.popleft())
        else:
            self._workers.remove(worker)
            self._without_work.append(worker)
            worker.connection.close()

    def _stop_overdue(self) -> None:
        for worker in list(self._workers):
            limit, job = self._time_limit, worker.job
            if limit is not None and job is not None and worker.seconds >= limit:
                self._workers.remove(worker)
                worker.stop()
                reason = f"the run took longer than time_limit = {limit:g} s and was ended"
                self._on_outcome(job.index, Failure(job.run, reason))

    def _remove(self, worker: _Worker, reason: str = "") -> None:
        """Report the job of a worker that has ended; if it never had one, all jobs have failed."""
        self._workers.remove(worker)
        failed = [worker.job] if worker.job else list(self._queue)
        reason += worker.stop(_GRACE)
        if worker.job is None:
            self._queue.clear()
            reason = _BEFORE_FIRST_RUN + reason
        for job in failed:
            self._on_outcome(job.index, Failure(job.run, reason))


@contextlib.contextmanager
def _interrupts_held() -> Iterator[None]:
    """Hold Ctrl-C back until the end of the block."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _available(reader: Connection) -> str:
    """Read what is in a pipe, without waiting for more."""
    os.set_blocking(reader.fileno(), False)
    with contextlib.suppress(BlockingIOError):
        return os.read(reader.fileno(), 1 << 16).decode(errors="replace")
    return ""


def _serve(connection: Connection, crash: Connection) -> None:
    """Run as a worker process."""
    os.setpgid(0, 0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    threading.Thread(target=_end_with_parent, daemon=True).start()
    faulthandler.enable(file=crash, all_threads=False)
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        _take_jobs(connection)


def _take_jobs(connection: Connection) -> None:
    """Load the training function, then train jobs until the pipe is closed; None asks for one."""

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
        send(outcome_of(train, job, send if steps else None))


def _end_with_parent() -> None:
    """End this process and all it has started when the one that started it is gone."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os.killpg(os.getpid(), signal.SIGKILL)
