"""Arrays in, a matplotlib Figure out: no file is written, no window opened, no global state touched (there is no pyplot here).

Functions named draw_* draw into one Axes and return it; the others make a Figure of the right size.  Sizes are in inches and points, so
that a figure looks alike at any dpi; type is at least 8 points, and larger on a figure wider than a page.
"""

from .bars import draw_latent_kl, draw_stacked_bars, stacked_bars
from .charts import draw_curves, draw_latent_map, latent_map, loss_curves
from .codes import codes, manifolds, places
from .estimators import draw_log_log, estimator_variance, signal_to_noise
from .factors import Roles, brief, draw_groups, latent_roles, named_traversals, scores
from .pictures import captioned, draw_manifold, groups, interpolations, manifold, manifold_grid, reconstructions, samples
from .posteriors import draw_posterior, mass_levels, posteriors
from .walks import walks

__all__ = [
    "Roles",
    "brief",
    "captioned",
    "codes",
    "draw_curves",
    "draw_groups",
    "draw_latent_kl",
    "draw_latent_map",
    "draw_log_log",
    "draw_manifold",
    "draw_posterior",
    "draw_stacked_bars",
    "estimator_variance",
    "groups",
    "interpolations",
    "latent_map",
    "latent_roles",
    "loss_curves",
    "manifold",
    "manifold_grid",
    "manifolds",
    "mass_levels",
    "named_traversals",
    "places",
    "posteriors",
    "reconstructions",
    "samples",
    "scores",
    "signal_to_noise",
    "stacked_bars",
    "walks",
]
