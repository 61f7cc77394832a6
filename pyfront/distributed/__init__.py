"""Several processes that train one model: replicas, shards, and the header of a step."""
