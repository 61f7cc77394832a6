"""Runs that several processes of `torch.distributed` train together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch.distributed as dist

from pyfront.front.front import Front, Solution
from pyfront.sweeps.training import Failure, Job, OnOutcome, Train, outcome_of

__all__ = ["Ranks"]


class Ranks:
    """The ranks of a process group that train every run together.

    Rank 0 of the group leads: it reads and writes the folder and says which run is next. Errors and
    the front are the same on all ranks.

    Args:
        group: a process group that this process belongs to.

    Raises:
        TypeError: no process group.
        ValueError: this process is not one of its ranks.
    """

    def __init__(self, group: Any) -> None:
        """See the class."""
        if not isinstance(group, dist.ProcessGroup):
            raise TypeError(f"process_group: expected a torch.distributed group, got {group!r}")
        self._group = group
        self._rank = dist.get_rank(group)
        if self._rank < 0:
            raise ValueError("process_group: this process is not one of its ranks")

    def sweep(
        self, train: Train, steps: bool, given: Callable[[], Any], lead: Callable[[], Front]
    ) -> Front:
        """Lead a sweep on rank 0, and train what it says on the others.

        Args:
            train: as for `sweep`.
            steps: whether `train` takes `advance`.
            given: returns what all ranks must have been given alike, or raises.
            lead: the sweep, which trains by `train_together`.

        Raises:
            ValueError: a rank was given other arguments than rank 0.
        """
        self._compare(given)
        if self._rank > 0:
            return self._follow(train, steps)
        try:
            front = lead()
        except Exception as error:
            self._send(error)
            raise
        self._send(front)
        return front

    def train_together(
        self, train: Train, jobs: Sequence[Job], on_outcome: OnOutcome, *, steps: bool
    ) -> None:
        """Train all jobs, one after the other; for rank 0."""
        for job in jobs:
            self._send(job)
            on_outcome(job.index, self._train(train, job, steps))

    def _compare(self, given: Callable[[], Any]) -> None:
        try:
            mine: Any = given()
        except (TypeError, ValueError) as error:
            mine = error
        every = self._gather(mine)
        for rank, found in enumerate(every):
            if isinstance(found, Exception):
                raise found
            if found != every[0]:
                raise ValueError(
                    f"process_group: rank {rank} was given other preferences or another seed than "
                    "rank 0"
                )

    def _follow(self, train: Train, steps: bool) -> Front:
        while isinstance(message := self._send(None), Job):
            self._train(train, message, steps)
        if isinstance(message, Exception):
            raise message
        assert isinstance(message, Front)
        return message

    def _train(self, train: Train, job: Job, steps: bool) -> Solution | Failure:
        """Train one job on this rank; a failure on one rank is one on all."""
        mine = outcome_of(train, job, (lambda _: None) if steps else None)
        reasons = self._gather(mine.reason if isinstance(mine, Failure) else None)
        failed = [f"rank {rank}: {why.rstrip()}" for rank, why in enumerate(reasons) if why]
        return Failure(job.run, "\n".join(failed)) if failed else mine

    def _send(self, message: Any) -> Any:
        """Return the message of rank 0 on all ranks."""
        box = [message]
        dist.broadcast_object_list(box, src=dist.get_global_rank(self._group, 0), group=self._group)
        return box[0]

    def _gather(self, value: Any) -> list[Any]:
        values: list[Any] = [None] * dist.get_world_size(self._group)
        dist.all_gather_object(values, value, group=self._group)
        return values
