"""What an optimizer, its wrappers and its shallow copies have in common."""

from __future__ import annotations

import threading
from typing import Any, TypeAlias

from pyfront.optimizer.scalars import Scalars

__all__ = ["ForStep", "Memory", "Shared"]

Memory: TypeAlias = dict[str, Any]


class Shared:
    """What an optimizer has in common with wrappers that copy its ``__dict__``.

    Attributes:
        options: values of the :class:`~pyfront.optimizer.options.Option` attributes.
        memory: the method's state: what JSON knows, with names as keys.
        report: the last report.
        solved: the last report whose weights are finite, as far as the host knows.
        earlier: for each task without data in that, the one in which it had some last, or None.
        engine: the name of the engine of the last decision, or None.
        collected: task gradients of micro-batches that wait for the last one.
        scalars: what ``scalarize`` has handed out since the last step.
        values: values per parameter, such as the task that it belongs to.
        buckets: memory in which task gradients travel to other processes, used anew by every step.
        kept: task gradients that wait for the base's step, where rises are tracked.
        changes: first-order changes of the losses in the last step, [m], or None.
        scaler: the gradient scaler by which ``backward`` has left ``.grad`` scaled, or None.
        warned: a step without a decision has been warned of.
        lock: held by the thread that is in a call.
        for_step: the decision under way is a step's own, and the base takes its direction as it is.
        deciding: a decision is under way.
        presence: the tasks that have data in the decision under way, or None.
    """

    def __init__(self, method: str) -> None:
        self.options: dict[str, Any] = {}
        self.memory: Memory = {"method": method}
        self.report: Any = None
        self.solved: Any = None
        self.earlier: dict[int, Any] = {}
        self.engine: str | None = None
        self.collected: Any = None
        self.scalars = Scalars()
        self.values: dict[str, Any] = {}
        self.buckets: dict[Any, Any] = {}
        self.kept: Any = None
        self.changes: Any = None
        self.scaler: Any = None
        self.warned = False
        self.lock = threading.RLock()
        self.for_step = False
        self.deciding = False
        self.presence: Any = None

    def __getstate__(self) -> dict[str, Any]:
        # what belongs to a call that is not finished, or to processes that are running now
        left_out = dict.fromkeys(("collected", "kept", "scaler", "lock"))
        options = {**self.options, "process_group": self.options.get("process_group") and None}
        copied = {"scalars": self.scalars.copied(), "options": options}
        copied |= {"deciding": False, "for_step": False}
        return {**self.__dict__, **left_out, **copied, "buckets": {}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, lock=threading.RLock())

    def drop_gradients(self) -> None:
        """Forget what goes with ``.grad``: it has been cleared.

        Not what goes with a scalar that waits, as frameworks clear before its backward pass.
        """
        self.collected = self.scaler = None
        if not self.scalars.waiting:
            self.kept = None
        self.scalars.clear()

    def alone(self, name: str) -> Alone:
        """Raise a ``RuntimeError`` while another thread is in a call; ``name`` is this call's."""
        return Alone(self, name)

    def one_decision(self, name: str) -> OneDecision:
        """As :meth:`alone`; raise also where a closure or a hook decides within a decision."""
        return OneDecision(self, name)


class Alone:
    """A time in which no other thread may be in a call."""

    __slots__ = ("name", "shared")

    def __init__(self, shared: Shared, name: str) -> None:
        self.shared, self.name = shared, name

    def __enter__(self) -> None:
        if not self.shared.lock.acquire(blocking=False):
            raise RuntimeError(
                f"{self.name}: another thread is in a call of this optimizer; one optimizer serves "
                "one thread at a time"
            )

    def __exit__(self, *error: object) -> None:
        self.shared.lock.release()


class OneDecision(Alone):
    """A time in which neither another thread nor this one may begin a decision."""

    __slots__ = ()

    def __enter__(self) -> None:
        super().__enter__()
        if self.shared.deciding:
            self.shared.lock.release()
            raise RuntimeError(
                f"{self.name}: a decision of this optimizer is under way, and its closure or a "
                "hook asks for another one"
            )
        self.shared.deciding = True

    def __exit__(self, *error: object) -> None:
        self.shared.deciding = False
        self.shared.lock.release()


class ForStep:
    """A time in which a decision is a step's own, after its closure."""

    __slots__ = ("shared",)

    def __init__(self, shared: Shared) -> None:
        self.shared = shared

    def __enter__(self) -> None:
        self.shared.for_step = True

    def __exit__(self, *error: object) -> None:
        self.shared.for_step = False
