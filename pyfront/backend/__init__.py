"""The only door to the compiled core."""
