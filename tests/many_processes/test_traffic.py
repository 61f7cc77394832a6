"""How much travels in a step, counted."""

import distributed_traffic as cases
from launch import launch
from sharding import needs_fully_shard

from pyfront.distributed.header import CAPACITY, FACTS


def test_replicas_send_a_row_for_each_gradient_that_is_needed():
    n, blocks, m = cases.size()
    row = n + blocks  # a flag for each parameter
    header = 6 + len(FACTS) + 2 * CAPACITY
    for counted in launch(cases.traffic, 2):
        assert counted["sum"] > 0  # the reducer is seen at all, and does not run in our steps

        def sent(entries):
            return {"all_reduce": entries, "all_gather": header, "broadcast": m, "reducer": 0}

        assert counted["MGDA"] == sent(m * row)
        assert counted["PreferenceFeedback"] == counted["UncertaintyWeighting"] == sent(row)
        assert counted["SingleLoopMGDA"] == sent(row + 2 * m + 1)


@needs_fully_shard
def test_shards_send_what_each_pass_of_fully_shard_does_and_the_gramian():
    m, header = 3, 6 + len(FACTS) + 2 * CAPACITY
    for counted, n in launch(cases.sharded_traffic, 2):
        for (method, kept), sent in counted.items():
            passes = 1 if method == "PreferenceFeedback" else m
            gramian = 0 if method == "PreferenceFeedback" else m * m
            gathered = 0 if kept else passes * n
            assert sent == [gramian + 2, header, m, gathered, passes * n]
