"""Judging a trained model."""

from ..models import active_units
from . import estimators
from .attributes import slant, thickness
from .disentanglement import DCI, dci, mig, mutual_information, sap
from .finite import best_noise
from .gaps import Gaps, best_gaussian, inference_gaps
from .interventions import beta_vae_score, factor_vae_score
from .likelihood import log_likelihood, log_likelihoods
from .neighbours import nearest, precision_coverage
from .quality import Likeness, frechet_distance, likeness, mode_count, sharpness, stacked
from .roles import Role, appearance, correlation_ratio, roles
from .surgery import Surgery, elbo_surgery

__all__ = [
    "DCI",
    "Gaps",
    "Likeness",
    "Role",
    "Surgery",
    "active_units",
    "appearance",
    "best_gaussian",
    "best_noise",
    "beta_vae_score",
    "correlation_ratio",
    "dci",
    "elbo_surgery",
    "estimators",
    "factor_vae_score",
    "frechet_distance",
    "inference_gaps",
    "likeness",
    "log_likelihood",
    "log_likelihoods",
    "mig",
    "mode_count",
    "mutual_information",
    "nearest",
    "precision_coverage",
    "roles",
    "sap",
    "sharpness",
    "slant",
    "stacked",
    "thickness",
]
