"""Whether this torch can shard a model in processes without an accelerator."""

import pytest
import torch

FULLY_SHARDS = hasattr(torch.cpu.Stream, "record_event")  # what fully_shard calls; not in torch 2.6
needs_fully_shard = pytest.mark.skipif(
    not FULLY_SHARDS, reason=f"fully_shard of torch {torch.__version__} needs an accelerator"
)
