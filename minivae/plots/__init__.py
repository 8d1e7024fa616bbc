"""Arrays in, a matplotlib Figure out: no file is written, no window opened, no global state touched (there is no pyplot here).

Functions named draw_* draw into one Axes and return it; the others make a Figure of the right size.  Sizes are in inches and points, so
that a figure looks alike at any dpi; type is at least 8 points, and larger on a figure wider than a page.
"""

from .charts import draw_curves, draw_latent_map, latent_map, loss_curves
from .codes import codes, manifolds, places
from .estimators import draw_log_log, estimator_variance, signal_to_noise
from .factors import Roles, brief, draw_groups, latent_roles, scores
from .pictures import draw_manifold, groups, interpolations, manifold, manifold_grid, reconstructions, samples

__all__ = [
    "Roles",
    "brief",
    "codes",
    "draw_curves",
    "draw_groups",
    "draw_latent_map",
    "draw_log_log",
    "draw_manifold",
    "estimator_variance",
    "groups",
    "interpolations",
    "latent_map",
    "latent_roles",
    "loss_curves",
    "manifold",
    "manifold_grid",
    "manifolds",
    "places",
    "reconstructions",
    "samples",
    "scores",
    "signal_to_noise",
]
