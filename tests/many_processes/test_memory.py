"""A step holds m + 1 rows beside what plain training holds."""

import distributed_memory as cases
import pytest
from launch import launch
from sharding import needs_fully_shard

MORE = 0.06  # of a row: activations of a pass, flags, numbers of size m


@pytest.mark.parametrize("small", [True, False], ids=["buckets", "one bucket"])
def test_replicas_hold_a_row_for_each_task_and_one_that_is_computed(small):
    for row, first, later in launch(cases.replicas, 2, small):
        assert cases.M * row < first < (cases.M + 1 + MORE) * row
        assert later < (1 + MORE) * row  # buckets stay


@needs_fully_shard
def test_shards_hold_a_shard_of_each_row():
    for shard, plain, held in launch(cases.shards, 2):
        assert held < plain + (cases.M + 1 + MORE) * shard
