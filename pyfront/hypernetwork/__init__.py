"""One network that generates the parameters of another for every preference."""

from pyfront.hypernetwork.network import HyperNetwork

__all__ = ["HyperNetwork"]
