"""Plots of fronts and of training."""

from pyfront.plots.page import save_page
from pyfront.plots.pareto import plot_front, save_figure
from pyfront.plots.tasks import plot_parallel, plot_relative_losses, plot_weights

__all__ = [
    "plot_front",
    "plot_parallel",
    "plot_relative_losses",
    "plot_weights",
    "save_figure",
    "save_page",
]
