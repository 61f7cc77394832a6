"""Losses to task gradients, or to one product with them."""
