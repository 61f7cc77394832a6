"""One call of an optimizer at a time."""

from __future__ import annotations

from typing import Any

__all__ = ["OneThread"]


class OneThread:
    """Refuse a second thread while a call is under way."""

    def __init__(self, lock: Any) -> None:
        self._lock = lock

    def __enter__(self) -> None:
        if not self._lock.acquire(blocking=False):
            raise RuntimeError(
                "backward: another call of this optimizer is under way, in another thread or in "
                "the closure; one optimizer serves one thread at a time"
            )

    def __exit__(self, *_: object) -> None:
        self._lock.release()
