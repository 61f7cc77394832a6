"""The errors of a product C v that cannot be taken, which say what to set instead."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from pyfront._utils.torch_private import UNSUPPORTED_PRODUCTS

__all__ = ["hidden", "supported", "unsupported"]


@contextmanager
def supported(products: str) -> Iterator[None]:
    """Turn torch's errors about a missing formula into errors that say what to do."""
    try:
        yield
    except RuntimeError as error:  # of which torch's "not implemented" is a kind
        text = str(error)
        if not any(phrase in text for phrase in UNSUPPORTED_PRODUCTS):
            raise
        reason = text.splitlines()[0].rstrip(".")
        raise unsupported(products, reason) from error


# The ways of `products=`, and those of `engine="columns"`: what errors call them, and what else
# may do.
CALLED = {
    "columns": "engine='columns'",
    "columns of a closure": "engine='columns' with a closure",
}
INSTEAD = {
    "columns": "give step() a closure for forward mode in place of a second derivative, or set "
    "engine='auto', which keeps m gradients",
    "columns of a closure": "give step() the losses in place of the closure, or set engine='auto', "
    "which keeps m gradients",
}


def unsupported(products: str, reason: str) -> RuntimeError:
    """Return the error that names a way that may do instead.

    Args:
        products: a way of ``products=``, ``"columns"`` or ``"columns of a closure"``.
        reason: what an operator lacks.
    """
    called = CALLED.get(products, f"products={products!r}")
    if "Nested forward mode" in reason:
        return RuntimeError(
            f"{called}: another forward-mode derivative is under way, in another "
            "thread, in the closure or around the step, and torch allows one at a time in a "
            "process; let them take turns, or "
            + INSTEAD.get(products, "set products='double_backward'")
        )
    always = "'difference', which every operator supports in float32"
    other = {
        "double_backward": f"give step() a closure and set products='forward', or {always}",
        "forward": f"set products='double_backward', or {always}",
        **INSTEAD,
    }[products]
    if "reentrant" in reason and products not in INSTEAD:
        other = "checkpoint with use_reentrant=False, or set products='difference' with a closure"
    if "scaled_dot_product" in reason:
        other = "run attention under torch.nn.attention.sdpa_kernel(SDPBackend.MATH), or " + other
    return RuntimeError(
        f"{called}: an operator of the losses does not support it ({reason}); {other}"
    )


def hidden(products: str, what: str) -> RuntimeError:
    """Return the error of a derivative that autograd does not see."""
    reason = f"{what} hidden from autograd, or a hook changes it by more than a factor"
    if products in ("forward", "columns of a closure"):
        reason += ", or the closure does not compute its losses from the parameters"
    return unsupported(products, reason)
