"""Scalars that stand for losses, counted from ``scalarize`` to the step."""

from __future__ import annotations

from typing import Any

__all__ = ["Scalars"]


class Scalars:
    """Counts scalars until a step, so that one that was forgotten or mixed up can be named.

    Attributes:
        waiting: the number of scalars whose backward pass has not run.
        arrived: the number of backward passes that have put a direction into ``.grad``.
        filled: ``backward(losses)`` has filled ``.grad``.
        learned: what the last decision wants to learn when the step is taken, or None.
    """

    def __init__(self) -> None:
        self.waiting = 0
        self.arrived = 0
        self.filled = False
        self.learned: dict[str, Any] | None = None

    def copied(self) -> Scalars:
        """Return what a copy of the optimizer and its parameters knows: ``.grad`` is copied too."""
        copied = Scalars()
        copied.filled = self.filled
        return copied

    def hand_out(self, learned: dict[str, Any] | None) -> None:
        """Count one more scalar and keep what is to be learnt with it."""
        self.waiting += 1
        self.learned = learned

    def arrive(self) -> None:
        """Count a backward pass."""
        self.waiting = max(0, self.waiting - 1)
        self.arrived += 1

    def clear(self) -> None:
        """Forget what was in ``.grad``; scalars that wait may still bring theirs."""
        self.arrived = 0
        self.filled = False

    def refuse_after_backward(self) -> None:
        """Raise a ``ValueError`` where ``.grad`` holds what ``backward(losses)`` has left there."""
        if self.filled:
            raise ValueError(
                "scalarize: backward(losses) has filled .grad and no step has followed, so that "
                "the scalar's gradient would be added to it; call step() or zero_grad() before"
            )

    def refuse_before(self, caller: str) -> None:
        """Raise where ``caller`` collects gradients too; the scalars are then forgotten.

        Raises:
            ValueError: a scalar waits or has arrived since the last step.
        """
        if not self.waiting and not self.arrived:
            return
        state = "waits for its backward()" if self.waiting else "has put its direction into .grad"
        self.forget()
        raise ValueError(
            f"{caller}: a scalar of scalarize() {state} and no step has followed; use one of both "
            f"in a step, or call {caller}() again to go on without the scalar"
        )

    def refuse_forgotten(self) -> None:
        """Raise where no direction has come of what was decided; the scalars are then forgotten.

        Raises:
            ValueError: scalars were handed out, and none of them had its backward pass.
        """
        if self.waiting and not self.arrived:
            self.forget()
            raise ValueError(
                "step: scalarize() has decided, but no backward() of its scalar has run since the "
                "last step or zero_grad(); write opt.scalarize(losses).backward() before opt.step()"
            )

    def forget(self) -> None:
        """Begin anew: the step has been taken, or the scalars are not to be."""
        self.waiting, self.learned = 0, None
        self.clear()
